#include "kernels/permute.h"

#include <numeric>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/permute.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

/// A routing, made by hand.
struct Assignment {
  std::string name;
  int64_t tokens, experts, top_k;
  std::vector<int32_t> chosen;  // [tokens, top_k]
};

std::vector<Assignment> assignments() {
  std::vector<Assignment> all = {{"no tokens", 0, 3, 2, {}},
                                 {"one of one", 1, 1, 1, {0}},
                                 {"empty experts first, between and last", 4, 7, 2, {1, 5, 5, 1, 3, 1, 5, 3}},
                                 {"all tokens on one expert", 7, 4, 1, {2, 2, 2, 2, 2, 2, 2}},
                                 {"every expert of every token", 7, 3, 3, {}},
                                 {"33 tokens", 33, 7, 3, {}}};
  for (Assignment& a : all) {
    for (int32_t slot = static_cast<int32_t>(a.chosen.size()); slot < a.tokens * a.top_k; ++slot) {
      a.chosen.push_back((slot / static_cast<int32_t>(a.top_k) * 5 + slot) % static_cast<int32_t>(a.experts));
    }
  }
  return all;
}

/// An assignment's tensors and the plan made of them.
struct Plan {
  Plan(Stream& s, const Assignment& a)
      : chosen(a.chosen),
        counts(DType::kI64, {a.experts}),
        offsets(DType::kI64, {a.experts + 1}),
        row_of_slot(DType::kI32, {a.tokens, a.top_k}),
        slot_of_row(DType::kI32, {a.tokens * a.top_k}) {
    int64_t* n = Tensor(counts).as<int64_t>();
    std::fill(n, n + a.experts, 0);
    for (int32_t expert : a.chosen) ++n[expert];
    permute_plan(s, Tensor(chosen).reshaped({a.tokens, a.top_k}), counts, offsets, row_of_slot, slot_of_row);
  }
  template <class T>
  static std::vector<T> list(Tensor t) {
    return {t.as<T>(), t.as<T>() + t.count()};
  }

  TestTensor chosen, counts, offsets, row_of_slot, slot_of_row;
};

class Permute : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }

  /// Calls body(assignment, hidden) for all of both.
  template <class Body>
  void for_each_case(const Body& body) {
    for (const Assignment& a : assignments()) {
      for (int64_t hidden : {1, 7, 33, 64}) {
        SCOPED_TRACE(concat(a.name, ", hidden ", hidden));
        body(a, hidden);
      }
    }
  }
};

TEST_P(Permute, PlanIsAStableSortByExpert) {
  for (const Assignment& a : assignments()) {
    SCOPED_TRACE(a.name);
    const Plan plan(stream(), a);
    const auto slots = Plan::list<int32_t>(plan.slot_of_row), rows = Plan::list<int32_t>(plan.row_of_slot);
    EXPECT_EQ(slots, reference::slots_by_expert(a.chosen));
    for (size_t row = 0; row < slots.size(); ++row) EXPECT_EQ(rows[static_cast<size_t>(slots[row])], row);
    const auto offsets = Plan::list<int64_t>(plan.offsets), counts = Plan::list<int64_t>(plan.counts);
    EXPECT_EQ(offsets.front(), 0);
    for (size_t e = 0; e < counts.size(); ++e) EXPECT_EQ(offsets[e + 1] - offsets[e], counts[e]);
  }
}

TEST_P(Permute, GatherBringsTokensIntoExpertOrder) {
  for_each_case([&](const Assignment& a, int64_t hidden) {
    const Plan plan(stream(), a);
    const TestTensor x = tensor({a.tokens, hidden}, 1), rows(dtype(), {a.tokens * a.top_k, hidden});
    gather_rows(stream(), x, plan.slot_of_row, a.top_k, rows);
    EXPECT_EQ(rows.values(), reference::gather(x.values(), Plan::list<int32_t>(plan.slot_of_row),
                                               static_cast<size_t>(a.top_k), static_cast<size_t>(hidden)));
    const TestTensor back(dtype(), {a.tokens * a.top_k, hidden});
    gather_rows(stream(), rows, Tensor(plan.row_of_slot).reshaped({a.tokens * a.top_k}), 1, back);
    std::vector<int32_t> slots(static_cast<size_t>(a.tokens * a.top_k));
    std::iota(slots.begin(), slots.end(), 0);
    EXPECT_EQ(back.values(),
              reference::gather(x.values(), slots, static_cast<size_t>(a.top_k), static_cast<size_t>(hidden)))
        << "into slot order and back";
  });
}

TEST_P(Permute, CombineEqualsItsEquationWithAndWithoutABase) {
  for_each_case([&](const Assignment& a, int64_t hidden) {
    const Plan plan(stream(), a);
    const Shape shape{a.tokens, hidden};
    const TestTensor rows = tensor({a.tokens * a.top_k, hidden}, 1), base = tensor(shape, 3), y(dtype(), shape);
    const auto combined = [&](const std::vector<double>& start) {
      return reference::combine(start, rows.values(), Plan::list<int32_t>(plan.slot_of_row),
                                static_cast<size_t>(a.top_k), static_cast<size_t>(hidden));
    };
    combine_rows(stream(), rows, plan.row_of_slot, {}, y);
    EXPECT_LE(relative_l2(y.values(), combined(std::vector<double>(y.values().size()))), tolerance(dtype()));
    combine_rows(stream(), rows, plan.row_of_slot, base, y);
    EXPECT_LE(relative_l2(y.values(), combined(base.values())), tolerance(dtype()));
    combine_rows(stream(), rows, plan.row_of_slot, base, base);
    EXPECT_TRUE(base.same_bits(y)) << "y in place of the base";
  });
}

TEST_P(Permute, GatherAndCombineAreEachOthersGradient) {
  for_each_case([&](const Assignment& a, int64_t hidden) {
    const Plan plan(stream(), a);
    const TestTensor x = tensor({a.tokens, hidden}, 1), drows = tensor({a.tokens * a.top_k, hidden}, 2);
    const TestTensor dx(dtype(), {a.tokens, hidden});
    combine_rows(stream(), drows, plan.row_of_slot, {}, dx);
    const reference::Directions directions(a.tokens * hidden);
    const auto slopes = directions.slopes(x.values(), [&](const std::vector<Complex>& moved) {
      return reference::weighted_sum(
          drows.values(), reference::gather(moved, Plan::list<int32_t>(plan.slot_of_row), static_cast<size_t>(a.top_k),
                                            static_cast<size_t>(hidden)));
    });
    EXPECT_LE(relative_l2(directions.project(dx.values()), slopes), tolerance(dtype()));
  });
}

TEST_P(Permute, RefusesARowOutOfRange) {
  const TestTensor x = tensor({3, 2}, 1), y = tensor({1, 2}, 1), below(std::vector<int32_t>{-1}),
                   above(std::vector<int32_t>{6});
  EXPECT_THROW(gather_rows(stream(), x, below, 2, y), Error);
  EXPECT_THROW(gather_rows(stream(), x, above, 2, y), Error);
  EXPECT_THROW(combine_rows(stream(), x, Tensor(below).reshaped({1, 1}), {}, y), Error);
  EXPECT_THROW(combine_rows(stream(), x, Tensor(above).reshaped({1, 1}), {}, y), Error);
}

TEST_P(Permute, PlanRefusesCountsThatDoNotBelongToTheIndices) {
  const TestTensor offsets(DType::kI64, {3}), rows(DType::kI32, {2, 1}), slots(DType::kI32, {2});
  const auto plan = [&](std::vector<int32_t> indices, std::vector<int64_t> counts) {
    const TestTensor chosen(indices), n(DType::kI64, {2});
    std::copy(counts.begin(), counts.end(), Tensor(n).as<int64_t>());
    permute_plan(stream(), Tensor(chosen).reshaped({2, 1}), n, offsets, rows, slots);
  };
  EXPECT_NO_THROW(plan({1, 0}, {1, 1}));
  EXPECT_THROW(plan({1, 1}, {2, 0}), Error);
  EXPECT_THROW(plan({1, 0}, {1, 2}), Error);
  EXPECT_THROW(plan({1, 2}, {1, 1}), Error);
  EXPECT_THROW(plan({-1, 0}, {1, 1}), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Permute, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
