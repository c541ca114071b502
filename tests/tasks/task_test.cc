#include "runtime/tasks/task.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/tasks/haystack.h"
#include "runtime/tasks/word_lists.h"
#include "tests/tasks/made_up_text.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

std::vector<TaskSuite::Task> all_tasks() {
  std::vector<TaskSuite::Task> tasks;
  for (int task = TaskSuite::Task_MIN; task <= TaskSuite::Task_MAX; ++task) {
    tasks.push_back(static_cast<TaskSuite::Task>(task));
  }
  return tasks;
}

/// What follows each `before`, up to any of the characters `ends`.
std::vector<std::string> after_each(const std::string& text, const std::string& before, const char* ends) {
  std::vector<std::string> found;
  for (size_t at = text.find(before); at != std::string::npos;) {
    const size_t from = at + before.size(), to = std::min(text.find_first_of(ends, from), text.size());
    found.push_back(text.substr(from, to - from));
    at = text.find(before, to);
  }
  return found;
}

/// Words by how often they come, the most frequent first.
std::vector<std::string> by_count(const std::vector<std::string>& words, size_t most) {
  std::map<std::string, int> counts;
  for (const std::string& word : words) ++counts[word];
  std::vector<std::string> order;
  for (const auto& [word, count] : counts) order.push_back(word);
  std::stable_sort(order.begin(), order.end(),
                   [&](const std::string& a, const std::string& b) { return counts[a] > counts[b]; });
  // Otherwise the question has no one answer.
  if (order.size() <= most || counts[order[most - 1]] == counts[order[most]]) return {};
  order.resize(most);
  return order;
}

/// What one who reads the whole prompt answers.
std::vector<std::string> read_codes(const std::string& text, const std::string& question) {
  std::string names = ", " + after_each(question, "of ", "?").front();
  if (const size_t last = names.find(" and "); last != std::string::npos) names.replace(last, 5, ", ");
  std::vector<std::string> answers;
  for (const std::string& name : after_each(names, ", ", ",")) {
    for (const std::string& code : after_each(text, "The code of " + name + " is ", ".")) answers.push_back(code);
  }
  return answers;
}

std::vector<std::string> trace(const std::string& text, const std::string& question) {
  std::set<std::string> equal = {after_each(question, "value ", ",").front()};
  // Variables are set in the order of the text.
  std::vector<std::string> variables;
  const std::vector<std::string> names = after_each(text, "Let ", " "), values = after_each(text, " = ", ".");
  for (size_t i = 0; i < names.size(); ++i) {
    if (equal.count(values[i])) equal.insert(names[i]), variables.push_back(names[i]);
  }
  return variables;
}

std::vector<std::string> read(TaskSuite::Task task, const std::string& prompt) {
  const size_t question_at = prompt.rfind("\nThat was the ");
  const std::string text = prompt.substr(0, question_at), question = prompt.substr(question_at);
  // The first is of the introduction.
  const std::vector<std::string> words = after_each(text, ", ", ", .");
  switch (task) {
    case TaskSuite::VARIABLE_TRACING:
      return trace(text, question);
    case TaskSuite::COMMON_WORDS:
      return by_count({words.begin() + 1, words.end()}, 10);
    case TaskSuite::FREQUENT_WORDS:
      return by_count({words.begin() + 1, words.end()}, 3);
    default:
      return read_codes(text, question);
  }
}

class Tasks : public testing::Test {
 protected:
  std::optional<TaskSample> make(TaskSuite::Task task, int64_t length, int64_t index = 0, uint64_t seed = 1) const {
    return TaskMaker(tokenizer_, text_, seed).make(task, length, index);
  }

  const TempFolder folder_;
  const Tokenizer tokenizer_ = load_tokenizer("bytes");
  const IndexedDataset text_ = made_up_text(folder_, tokenizer_);
};

TEST_F(Tasks, AReaderOfThePromptKnowsTheAnswers) {
  for (TaskSuite::Task task : all_tasks()) {
    for (int64_t length : {3000, 12000}) {
      for (int64_t index = 0; index < 5; ++index) {
        const std::optional<TaskSample> made = make(task, length, index);
        ASSERT_TRUE(made) << TaskSuite::Task_Name(task) << " " << length;
        const std::string prompt = tokenizer_.decode(made->prompt);
        EXPECT_THAT(read(task, prompt), UnorderedElementsAreArray(made->answers)) << prompt;
      }
    }
  }
}

TEST_F(Tasks, FillTheLengthAndNoMore) {
  for (TaskSuite::Task task : all_tasks()) {
    int64_t fits = 0;
    for (int64_t length = 100; length <= 8000; length += 379) {
      const std::optional<TaskSample> made = make(task, length, 3);
      if (!made) continue;
      ++fits;
      const int64_t taken = static_cast<int64_t>(made->prompt.size()) + made->new_tokens;
      EXPECT_LE(taken, length) << TaskSuite::Task_Name(task);
      // Some words more would not fit.
      const bool words = task == TaskSuite::COMMON_WORDS || task == TaskSuite::FREQUENT_WORDS;
      EXPECT_GT(taken, length - (words ? 120 : 1)) << TaskSuite::Task_Name(task) << " " << length;
      int64_t answer = 0;
      for (const std::string& word : made->answers) answer += static_cast<int64_t>(word.size()) + 2;
      EXPECT_GE(made->new_tokens, 2 * answer);
    }
    EXPECT_GE(fits, 10) << TaskSuite::Task_Name(task);
    EXPECT_FALSE(make(task, 100)) << TaskSuite::Task_Name(task);
  }
}

TEST_F(Tasks, AreFunctionsOfSeedLengthAndIndex) {
  for (TaskSuite::Task task : all_tasks()) {
    const std::vector<int32_t> first = make(task, 4000, 7, 1)->prompt;
    EXPECT_EQ(make(task, 4000, 7, 1)->prompt, first);
    EXPECT_NE(make(task, 4000, 8, 1)->prompt, first);
    EXPECT_NE(make(task, 4000, 7, 2)->prompt, first);
  }
}

TEST_F(Tasks, NeedlesAreAtAllDepthsOfRealText) {
  double lowest = 1, highest = 0;
  for (int64_t index = 0; index < 50; ++index) {
    const TaskSample sample = *make(TaskSuite::NEEDLE_IN_TEXT, 6000, index);
    const std::string prompt = tokenizer_.decode(sample.prompt);
    EXPECT_THAT(prompt, HasSubstr(" of document "));
    const double depth = static_cast<double>(prompt.find(sample.answers[0])) / static_cast<double>(prompt.size());
    lowest = std::min(lowest, depth), highest = std::max(highest, depth);
  }
  EXPECT_LT(lowest, 0.1);
  EXPECT_GT(highest, 0.85);
}

TEST_F(Tasks, HaveAsManyAnswersAsTheirDescriptionSays) {
  const std::map<TaskSuite::Task, size_t> several = {{TaskSuite::MULTI_VALUE, 4},
                                                     {TaskSuite::MULTI_QUERY, 4},
                                                     {TaskSuite::VARIABLE_TRACING, 5},
                                                     {TaskSuite::COMMON_WORDS, 10},
                                                     {TaskSuite::FREQUENT_WORDS, 3}};
  for (TaskSuite::Task task : all_tasks()) {
    const std::vector<std::string> answers = make(task, 5000)->answers;
    EXPECT_EQ(answers.size(), several.count(task) ? several.at(task) : 1) << TaskSuite::Task_Name(task);
    EXPECT_EQ(std::set<std::string>(answers.begin(), answers.end()).size(), answers.size());
  }
}

TEST_F(Tasks, NamingVariablesOfAllNumbersDoesNotFollowAChain) {
  int64_t answers = 0, named = 0;
  for (int64_t index = 0; index < 20; ++index) {
    const TaskSample sample = *make(TaskSuite::VARIABLE_TRACING, 3000, index);
    const std::string prompt = tokenizer_.decode(sample.prompt);
    const std::vector<std::string> variables = after_each(prompt, "Let ", " "), values = after_each(prompt, " = ", ".");
    EXPECT_EQ(variables.size(), 15u);
    EXPECT_EQ(std::count_if(values.begin(), values.end(), [](const std::string& value) { return value[0] <= '9'; }), 3);
    std::string copied;
    for (const std::string& variable : variables) copied += " " + variable + ",";
    answers += static_cast<int64_t>(sample.answers.size());
    named += count_named(copied.substr(0, static_cast<size_t>(sample.new_tokens)), sample.answers);
  }
  EXPECT_LT(named, 0.8 * static_cast<double>(answers));
}

TEST_F(Tasks, TheLengthAloneDecidesHowOftenCommonWordsCome) {
  for (int64_t length : {3000, 4095, 4096, 9000}) {
    const WordCounts counts = common_word_counts(length);
    EXPECT_EQ(counts.common, length < 4096 ? 10 : 30);
    EXPECT_EQ(counts.others, length < 4096 ? 1 : 3);
    for (int64_t index = 0; index < 20; ++index) {
      const std::optional<TaskSample> sample = make(TaskSuite::COMMON_WORDS, length, index);
      ASSERT_TRUE(sample) << length;
      const std::vector<std::string> list = after_each(tokenizer_.decode(sample->prompt), ", ", ",.");
      for (const std::string& word : sample->answers) {
        EXPECT_EQ(std::count(list.begin(), list.end(), word), counts.common) << length;
      }
    }
  }
}

TEST(CheckText, NamesATokenThatTheTokenizerLacks) {
  const TempFolder folder;
  const Tokenizer tokenizer = load_tokenizer("bytes");
  IndexedWriter writer(folder / "set", 1000);
  writer.add(std::vector<int32_t>{65, 66, 256});
  writer.add(std::vector<int32_t>{67, 300, 256});
  writer.finish();
  EXPECT_THAT(error_of([&] { check_text(IndexedDataset(folder / "set"), tokenizer); }),
              HasSubstr("set.bin: token 4: id 300 is not in the tokenizer's vocabulary of 257"));
  EXPECT_NO_THROW(check_text(made_up_text(folder, tokenizer), tokenizer));
}

TEST(CountNamed, TakesWholeWordsInAnyOrder) {
  EXPECT_EQ(count_named("12, 7 and 305.", {"305", "7"}), 2);
  EXPECT_EQ(count_named("12, 7 and 305.", {"30", "5", "12"}), 1);
  EXPECT_EQ(count_named("ab-cd\nef", {"ab", "ab-cd", "ef"}), 2);
  EXPECT_EQ(count_named("", {"a"}), 0);
  EXPECT_EQ(count_named("7 7 7", {"7"}), 1);
}

TEST(SentenceEnd, IsBehindAMarkOrBeforeALineBreak) {
  EXPECT_EQ(sentence_end("One. Two."), 4u);
  EXPECT_EQ(sentence_end("3.5 is a number? Yes"), 16u);
  EXPECT_EQ(sentence_end("a line\nanother"), 6u);
  EXPECT_EQ(sentence_end("\nafter one"), std::string::npos);
  EXPECT_EQ(sentence_end("no end."), std::string::npos);
  EXPECT_EQ(sentence_end(std::string(700, 'x') + " y"), 700u);
  EXPECT_EQ(sentence_end(std::string(5000, 'x')), 600u);
  EXPECT_EQ(sentence_end("\xe4\xbd\xa0\xe3\x80\x82\xe5\xa5\xbd"), 6u) << "a Chinese full stop";
  std::string wide;
  for (int i = 0; i < 500; ++i) wide += "\xe4\xbd\xa0";
  EXPECT_EQ(sentence_end("x" + wide), 598u) << "between characters";
}

}  // namespace
}  // namespace sluice
