#include "runtime/tasks/task.h"

#include <algorithm>
#include <set>

#include "kernels/core/error.h"
#include "runtime/tasks/haystack.h"
#include "runtime/tasks/prompt.h"
#include "runtime/tasks/word_lists.h"

namespace sluice {
namespace {

constexpr int64_t kOthers = 4;       // names, values or queries of the tasks with several; hops of tracing
constexpr int64_t kOtherChains = 2;  // of variables with other numbers: an answer may name two chains of the three

/// What there is to find, and what to hide it in.
struct Needles {
  PromptParts parts;
  std::vector<std::string> hidden;
  std::function<std::string()> next_sentence;
};

std::string needle(const std::string& name, const std::string& value) {
  return " The code of " + name + " is " + value + ".";
}

/// "a, b, c and d"
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

std::string repeated_sentence() {
  return " The river is wide and the hills are green. The sun goes down and comes up.";
}

PromptParts ask_for(const std::vector<std::string>& names, const std::vector<std::string>& values) {
  const bool many = values.size() > 1;
  const std::string of = (many ? "codes of " : "code of ") + listed(names);
  return {"Codes are hidden in the text that follows.\n",
          "\nThat was the text. Which " + std::string(many ? "are the " : "is the ") + of + "? The " + of +
              " in the text " + (many ? "are" : "is"),
          values};
}

Needles find_codes(TaskSuite::Task task, Names& names, Draws& draws) {
  const bool uuid = task == TaskSuite::NEEDLE_UUID || task == TaskSuite::MULTI_KEY_UUIDS;
  const auto value = [&names, uuid] { return uuid ? names.uuid() : names.number(); };
  const auto name = [&names, task] { return task == TaskSuite::MULTI_KEY_UUIDS ? names.uuid() : names.word(); };
  const int64_t asked_names = task == TaskSuite::MULTI_QUERY ? kOthers : 1;
  const int64_t values_each = task == TaskSuite::MULTI_VALUE ? kOthers : 1;
  std::vector<std::string> asked, values;
  Needles needles;
  for (int64_t i = 0; i < asked_names; ++i) {
    asked.push_back(name());
    for (int64_t j = 0; j < values_each; ++j) {
      values.push_back(value());
      needles.hidden.push_back(needle(asked.back(), values.back()));
    }
  }
  const int64_t others = task == TaskSuite::MULTI_KEY ? kOthers - 1 : 0;
  // One after the other: the order in which arguments are evaluated is the compiler's.
  const auto another = [name, value] {
    const std::string of = name();
    return needle(of, value());
  };
  for (int64_t i = 0; i < others; ++i) needles.hidden.push_back(another());
  draws.shuffle(needles.hidden);
  needles.parts = ask_for(asked, values);
  needles.next_sentence = another;
  return needles;
}

/// Variables, the first of which is set to a number and each other one to the one before it.
struct Chain {
  std::string number;
  std::vector<std::string> variables;

  /// What sets variable i.
  std::string set(size_t i) const {
    return " Let " + variables[i] + " = " + (i == 0 ? number : variables[i - 1]) + ".";
  }
};

Chain new_chain(Names& names) {
  Chain chain{names.number(), {}};
  for (int64_t i = 0; i <= kOthers; ++i) chain.variables.push_back(names.variable());
  return chain;
}

/// Chains among each other, every one in its own order.
std::vector<std::string> interleaved(const std::vector<Chain>& chains, Draws& draws) {
  std::vector<size_t> turns, next(chains.size());
  for (size_t i = 0; i < chains.size(); ++i) turns.insert(turns.end(), chains[i].variables.size(), i);
  draws.shuffle(turns);
  std::vector<std::string> sentences;
  for (size_t turn : turns) sentences.push_back(chains[turn].set(next[turn]++));
  return sentences;
}

Needles trace_variables(Names& names, Draws& draws) {
  std::vector<Chain> chains;
  for (int64_t i = 0; i <= kOtherChains; ++i) chains.push_back(new_chain(names));
  const std::string number = chains.front().number;
  Needles needles;
  needles.hidden = interleaved(chains, draws);
  needles.parts.answers = chains.front().variables;
  needles.parts.introduction = "Variables get their values in the text that follows.\n";
  needles.parts.question = "\nThat was the text. Which variables have the value " + number +
                           ", also by way of other variables? Those with the value " + number + " are";
  return needles;
}

}  // namespace

std::optional<TaskSample> TaskMaker::make(TaskSuite::Task task, int64_t length, int64_t index) const {
  Draws draws(seed_, concat("task ", TaskSuite::Task_Name(task), " ", length), index);
  Names names(draws);
  PieceEncoder encode(tokenizer_);
  switch (task) {
    case TaskSuite::COMMON_WORDS:
      return common_words(encode, length, names, draws);
    case TaskSuite::FREQUENT_WORDS:
      return frequent_words(encode, length, names, draws);
    default:
      break;
  }
  const bool tracing = task == TaskSuite::VARIABLE_TRACING;
  Needles needles = tracing ? trace_variables(names, draws) : find_codes(task, names, draws);
  std::optional<TextSentences> text;
  if (tracing || task == TaskSuite::NEEDLE) {
    needles.next_sentence = repeated_sentence;
  } else if (task != TaskSuite::MULTI_KEY_NUMBERS && task != TaskSuite::MULTI_KEY_UUIDS) {
    text.emplace(text_, tokenizer_, draws);
    needles.next_sentence = [&text] { return text->next(); };
  }
  return hide(encode, needles.parts, needles.hidden, needles.next_sentence, length, draws);
}

int64_t count_named(std::string_view text, const std::vector<std::string>& answers) {
  const auto in_word = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  std::set<std::string_view> words;
  for (auto begin = text.begin(); begin != text.end();) {
    const auto end = std::find_if_not(begin, text.end(), in_word);
    words.insert(std::string_view(begin, end));
    begin = end == text.end() ? end : end + 1;
  }
  return std::count_if(answers.begin(), answers.end(), [&](const std::string& answer) { return words.count(answer); });
}

}  // namespace sluice
