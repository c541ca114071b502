#include "kernels/attention.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/attention.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

using reference::AttentionShape;
using reference::Complex;
using reference::relative_l2;
using reference::test_data;

/// Documents of `lengths` queries, each after `cached` keys that are in the key cache already.
AttentionShape packed(size_t query_heads, size_t kv_heads, size_t head_dim, const std::vector<int32_t>& lengths,
                      int32_t cached = 0) {
  AttentionShape shape{query_heads, kv_heads, head_dim, {0}, {0}, {}, 1 / std::sqrt(static_cast<double>(head_dim))};
  for (int32_t length : lengths) {
    shape.query_offsets.push_back(shape.query_offsets.back() + length);
    shape.key_offsets.push_back(shape.key_offsets.back() + length + cached);
    for (int32_t i = 0; i < length; ++i) shape.query_positions.push_back(i + cached);
  }
  return shape;
}

std::string describe(const AttentionShape& shape) {
  return concat(shape.query_positions.size(), " queries, ", shape.key_offsets.back(), " keys, ", shape.query_heads,
                " heads on ", shape.kv_heads, " of ", shape.head_dim);
}

const std::vector<AttentionShape> kShapes = {
    packed(1, 1, 2, {1, 2}),      packed(2, 2, 6, {7}),        packed(2, 1, 32, {33}),
    packed(8, 1, 6, {1, 7, 1}),   packed(8, 4, 64, {20, 13}),  packed(4, 2, 32, {1, 1, 30, 0, 1}),
    packed(4, 2, 32, {1, 1}, 50), packed(2, 1, 6, {7, 3}, 20), packed(2, 1, 128, {9}),
    packed(1, 1, 40, {150}),
};

/// The arguments of one call, with the memory behind them.
struct Call {
  Call(DType dtype, const AttentionShape& shape)
      : queries{static_cast<int64_t>(shape.query_positions.size()), static_cast<int64_t>(shape.query_heads),
                static_cast<int64_t>(shape.head_dim)},
        keys{shape.key_offsets.back(), static_cast<int64_t>(shape.kv_heads), static_cast<int64_t>(shape.head_dim)},
        rows{queries[0], queries[1]},
        q(dtype, queries, test_data(queries.count(), 1)),
        k(dtype, keys, test_data(keys.count(), 2)),
        v(dtype, keys, test_data(keys.count(), 3)),
        dout(dtype, queries, test_data(queries.count(), 4)),
        query_offsets(shape.query_offsets),
        key_offsets(shape.key_offsets),
        query_positions(shape.query_positions),
        out(dtype, queries),
        lse(dtype, rows),
        delta(dtype, rows),
        dq(dtype, queries),
        dk(dtype, keys),
        dv(dtype, keys),
        in{q, k, v, query_offsets, key_offsets, query_positions, shape.scale} {}

  void forward(Stream& s) { attention_forward(s, in, out, lse); }
  void backward(Stream& s) { attention_backward(s, in, out, lse, dout, delta, dq, dk, dv); }

  Shape queries, keys, rows;
  TestTensor q, k, v, dout, query_offsets, key_offsets, query_positions, out, lse, delta, dq, dk, dv;
  AttentionInput in;
};

class Attention : public KernelTest {};

TEST_P(Attention, ForwardEqualsItsEquation) {
  for (const AttentionShape& shape : kShapes) {
    Call call(dtype(), shape);
    call.forward(stream());
    const auto want = reference::attention(shape, call.q.values(), call.k.values(), call.v.values());
    EXPECT_LE(relative_l2(call.out.values(), want.out), tolerance(dtype())) << describe(shape);
    EXPECT_LE(relative_l2(call.lse.values(), want.lse), tolerance(dtype())) << describe(shape);
  }
}

TEST_P(Attention, GradientsEqualTheComplexStep) {
  for (const AttentionShape& shape : kShapes) {
    Call call(dtype(), shape);
    call.forward(stream());
    call.backward(stream());
    const std::vector<double> dout = call.dout.values();
    const auto q = reference::as_type<Complex>(call.q.values()), k = reference::as_type<Complex>(call.k.values()),
               v = reference::as_type<Complex>(call.v.values());
    const auto expect_gradient = [&](const char* name, const TestTensor& x, const TestTensor& dx, const auto& output) {
      const reference::Directions directions(static_cast<Tensor>(x).count());
      const auto slopes = directions.slopes(
          x.values(), [&](const auto& moved) { return reference::weighted_sum(dout, output(moved).out); });
      EXPECT_LE(relative_l2(directions.project(dx.values()), slopes), tolerance(dtype()))
          << name << " of " << describe(shape);
    };
    expect_gradient("dq", call.q, call.dq, [&](const auto& moved) { return attention(shape, moved, k, v); });
    expect_gradient("dk", call.k, call.dk, [&](const auto& moved) { return attention(shape, q, moved, v); });
    expect_gradient("dv", call.v, call.dv, [&](const auto& moved) { return attention(shape, q, k, moved); });
  }
}

TEST_P(Attention, AQueryWithOneKeyTakesItsValue) {
  Call call(dtype(), packed(1, 1, 6, {1}));
  call.forward(stream());
  call.backward(stream());
  EXPECT_LE(relative_l2(call.out.values(), call.v.values()), tolerance(dtype()));
  EXPECT_LE(relative_l2(call.dv.values(), call.dout.values()), tolerance(dtype()));
  for (double value : call.dq.values()) EXPECT_NEAR(value, 0, tolerance(dtype()));
  for (double value : call.dk.values()) EXPECT_NEAR(value, 0, tolerance(dtype()));
}

TEST_P(Attention, LongDocumentsAgreeWithTheEquation) {
  const AttentionShape shape = packed(2, 1, 16, {700});
  Call call(dtype(), shape);
  call.forward(stream());
  const auto want = reference::attention(shape, call.q.values(), call.k.values(), call.v.values());
  EXPECT_LE(relative_l2(call.out.values(), want.out), tolerance(dtype()));
}

TEST_P(Attention, QueriesOfAnyOrderSeeTheirOwnPosition) {
  AttentionShape shape = packed(2, 1, 6, {33});
  for (size_t t = 0; t < 33; ++t) shape.query_positions[t] = static_cast<int32_t>(t * 20 % 33);
  Call call(dtype(), shape);
  call.forward(stream());
  const auto want = reference::attention(shape, call.q.values(), call.k.values(), call.v.values());
  EXPECT_LE(relative_l2(call.out.values(), want.out), tolerance(dtype()));
}

TEST_P(Attention, LargeLogitsDoNotOverflow) {
  AttentionShape shape = packed(2, 1, 6, {33});
  shape.scale = 5000;
  Call call(dtype(), shape);
  call.forward(stream());
  call.backward(stream());
  for (const TestTensor* t : {&call.out, &call.lse, &call.dq, &call.dk, &call.dv}) {
    for (double value : t->values()) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(Attention, RepeatsToTheLastBit) {
  const AttentionShape shape = packed(4, 2, 32, {1, 200, 90});
  Call first(dtype(), shape), second(dtype(), shape);
  for (Call* call : {&first, &second}) {
    call->forward(stream());
    call->backward(stream());
  }
  EXPECT_TRUE(first.out.same_bits(second.out) && first.lse.same_bits(second.lse));
  EXPECT_TRUE(first.dq.same_bits(second.dq) && first.dk.same_bits(second.dk) && first.dv.same_bits(second.dv));
}

TEST_P(Attention, DoesNotDependOnTheNumberOfThreads) {
  ThreadPool pool(2);
  Stream other{Device::kCpu, GetParam().isa, &pool};
  for (const AttentionShape& shape : {packed(2, 1, 32, {300}), packed(4, 4, 6, {20, 0, 9, 1})}) {
    Call first(dtype(), shape), second(dtype(), shape);
    first.forward(stream());
    second.forward(other);
    first.backward(stream());
    second.backward(other);
    EXPECT_TRUE(first.out.same_bits(second.out) && first.lse.same_bits(second.lse));
    EXPECT_TRUE(first.dq.same_bits(second.dq) && first.dk.same_bits(second.dk) && first.dv.same_bits(second.dv));
  }
}

TEST_P(Attention, KeysThatNoQuerySeesGetNoGradient) {
  AttentionShape shape = packed(2, 1, 6, {5}, 20);
  for (int32_t& position : shape.query_positions) position = 3;
  Call call(dtype(), shape);
  call.forward(stream());
  call.backward(stream());
  for (const TestTensor* t : {&call.dk, &call.dv}) {
    const std::vector<double> values = t->values();
    for (size_t i = 4 * 6; i < values.size(); ++i) ASSERT_EQ(values[i], 0) << i;
  }
}

TEST_P(Attention, RefusesBadOffsetsPositionsAndShapes) {
  const auto refuses = [&](const auto& spoil) {
    AttentionShape shape = packed(2, 1, 6, {5, 2});
    spoil(shape);
    Call call(dtype(), shape);
    EXPECT_THROW(call.forward(stream()), Error);
    EXPECT_THROW(call.backward(stream()), Error);
  };
  refuses([](AttentionShape& s) { s.query_offsets[0] = 1; });
  refuses([](AttentionShape& s) { s.query_offsets[1] = 8; });
  refuses([](AttentionShape& s) { s.query_offsets[2] = 6; });
  refuses([](AttentionShape& s) { s.key_offsets[1] = 9; });
  refuses([](AttentionShape& s) { s.query_positions[6] = 2; });
  refuses([](AttentionShape& s) { s.query_positions[0] = -1; });
  refuses([](AttentionShape& s) { s.query_heads = 3, s.kv_heads = 2; });
}

INSTANTIATE_TEST_SUITE_P(Cpu, Attention, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
