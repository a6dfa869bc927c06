// Every optimizer against its formula in double precision, and its vector kernels against the
// scalar reference, bit for bit, on every instruction set this machine has.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/instruction_sets.h"
#include "optimizers/make.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

using testing::TestSeed;

// One element: its weight and slots, all in double.
struct Element {
  double w, s0, s1;
};

void ReferenceStep(const OptimizerOptions& o, double lr, int64_t t, double g, Element* e) {
  switch (o.kind) {
    case OptimizerKind::kSgd:
      e->w -= lr * (g + o.weight_decay * e->w);
      return;
    case OptimizerKind::kMomentum:
      e->s0 = e->s0 * o.momentum + g;
      e->w -= o.nesterov ? lr * g + lr * o.momentum * e->s0 : lr * e->s0;
      return;
    case OptimizerKind::kAdagrad:
      e->s0 += g * g;
      e->w -= lr * g / std::sqrt(e->s0);
      return;
    case OptimizerKind::kFtrl: {
      const double p = -static_cast<double>(o.learning_rate_power);
      const double accum = e->s0 + g * g;
      e->s1 += g + 2.0 * o.l2_shrinkage_regularization * e->w -
               (std::pow(accum, p) - std::pow(e->s0, p)) / lr * e->w;
      const double quadratic = std::pow(accum, p) / lr + 2.0 * o.l2_regularization;
      const double sign = e->s1 > 0 ? 1.0 : -1.0;
      e->w = std::fabs(e->s1) > o.l1_regularization
                 ? (sign * o.l1_regularization - e->s1) / quadratic
                 : 0.0;
      e->s0 = accum;
      return;
    }
    case OptimizerKind::kLazyAdam: {
      const double b1 = o.beta1, b2 = o.beta2;
      e->s0 = b1 * e->s0 + (1 - b1) * g;
      e->s1 = b2 * e->s1 + (1 - b2) * g * g;
      const double rate = lr * std::sqrt(1 - std::pow(b2, t)) / (1 - std::pow(b1, t));
      e->w -= rate * e->s0 / (std::sqrt(e->s1) + o.epsilon);
      return;
    }
    case OptimizerKind::kNone:
      return;
  }
}

struct Case {
  const char* name;
  OptimizerOptions options;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const char* name, OptimizerKind kind) -> OptimizerOptions& {
    cases.push_back({name, {}});
    cases.back().options.kind = kind;
    return cases.back().options;
  };
  add("Sgd", OptimizerKind::kSgd);
  add("SgdDecay", OptimizerKind::kSgd).weight_decay = 0.01f;
  add("Momentum", OptimizerKind::kMomentum).momentum = 0.9f;
  auto& nesterov = add("Nesterov", OptimizerKind::kMomentum);
  nesterov.momentum = 0.8f;
  nesterov.nesterov = true;
  add("Adagrad", OptimizerKind::kAdagrad);
  add("Ftrl", OptimizerKind::kFtrl);
  auto& ftrl = add("FtrlRegularized", OptimizerKind::kFtrl);
  ftrl.l1_regularization = 0.05f;
  ftrl.l2_regularization = 0.02f;
  ftrl.l2_shrinkage_regularization = 0.01f;
  add("FtrlPower", OptimizerKind::kFtrl).learning_rate_power = -0.7f;
  add("LazyAdam", OptimizerKind::kLazyAdam);
  add("LazyAdamBetas", OptimizerKind::kLazyAdam).beta1 = 0.5f;
  return cases;
}

class OptimizerTest : public ::testing::TestWithParam<Case> {};

TEST_P(OptimizerTest, FollowsTheFormulaFor200Steps) {
  MXREC_TRACE_SEED();
  const OptimizerOptions& options = GetParam().options;
  const auto optimizer = Optimizer::Make(options);
  const int slots = SlotCount(options.kind), dim = 19;
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> normal;
  std::vector<float> row(dim * (1 + slots)), grad(dim);
  for (int c = 0; c < dim; ++c) row[c] = 0.1f * normal(random);
  optimizer->InitSlots(row.data() + dim, dim);
  std::vector<Element> expected(dim);
  for (int c = 0; c < dim; ++c) {
    expected[c] = {row[c], slots > 0 ? row[dim + c] : 0.0, slots > 1 ? row[2 * dim + c] : 0.0};
  }
  float* rows[] = {row.data()};
  for (int64_t t = 1; t <= 200; ++t) {
    const StepParams step{t <= 100 ? 0.01f : 0.005f, t};
    for (int c = 0; c < dim; ++c) {
      grad[c] = 0.1f * normal(random);
      ReferenceStep(options, step.learning_rate, t, grad[c], &expected[c]);
    }
    optimizer->Update(rows, grad.data(), 1, dim, step);
  }
  const auto near = [](double actual, double wanted) {
    return std::fabs(actual - wanted) <= 1e-5 * std::max(1.0, std::fabs(wanted));
  };
  for (int c = 0; c < dim; ++c) {
    EXPECT_TRUE(near(row[c], expected[c].w)) << c << ": " << row[c] << " " << expected[c].w;
    if (slots > 0) {
      EXPECT_TRUE(near(row[dim + c], expected[c].s0)) << "slot 0 of " << c;
    }
    if (slots > 1) {
      EXPECT_TRUE(near(row[2 * dim + c], expected[c].s1)) << "slot 1 of " << c;
    }
  }
}

TEST_P(OptimizerTest, VectorKernelsEqualTheScalarReference) {
  MXREC_TRACE_SEED();
  const OptimizerOptions& options = GetParam().options;
  const auto vector = MakeOptimizer(options, KernelChoice::kVector);
  const auto scalar = MakeOptimizer(options, KernelChoice::kScalar);
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> normal;
  const int slots = SlotCount(options.kind);
  std::vector<int> dims = {1, 3, 4, 8, 16, 17, 33};
  for (int i = 0; i < 6; ++i) dims.push_back(1 + static_cast<int>(random() % 300));
  testing::ForEachInstructionSet([&] {
    for (const int dim : dims) {
      const size_t n = random() % 20, floats = static_cast<size_t>(dim) * (1 + slots);
      SCOPED_TRACE("dim " + std::to_string(dim) + ", rows " + std::to_string(n));
      std::vector<float> a(n * floats + 1), grads(n * dim);
      std::vector<float*> rows_a(n), rows_b(n);
      for (size_t i = 0; i < n; ++i) {
        float* row = a.data() + 1 + i * floats;  // not aligned
        for (int c = 0; c < dim; ++c) row[c] = normal(random);
        vector->InitSlots(row + dim, dim);
      }
      std::vector<float> b = a;
      for (size_t i = 0; i < n; ++i) {
        rows_a[i] = a.data() + 1 + i * floats;
        rows_b[i] = b.data() + 1 + i * floats;
      }
      for (int64_t t = 1; t <= 4; ++t) {
        for (float& g : grads) g = normal(random);
        vector->Update(rows_a.data(), grads.data(), n, dim, {0.05f, t});
        scalar->Update(rows_b.data(), grads.data(), n, dim, {0.05f, t});
      }
      ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(OptimizerMakeTest, NoneIsNull) { EXPECT_EQ(Optimizer::Make(OptimizerOptions{}), nullptr); }

TEST_P(OptimizerTest, AnEmptyBatchTouchesNothing) {
  testing::ForEachInstructionSet([&] {
    for (const KernelChoice choice : {KernelChoice::kVector, KernelChoice::kScalar}) {
      MakeOptimizer(GetParam().options, choice)->Update(nullptr, nullptr, 0, 16, {0.05f, 1});
    }
  });
}

TEST(FtrlTest, RateZeroMovesNothing) {
  OptimizerOptions options;
  options.kind = OptimizerKind::kFtrl;
  std::vector<float> row = {1.0f, 0.1f, 0.5f};
  const std::vector<float> before = row;
  float* rows[] = {row.data()};
  const float grad = 1.0f;
  Optimizer::Make(options)->Update(rows, &grad, 1, 1, {0.0f, 1});
  EXPECT_EQ(row, before);
}

}  // namespace
}  // namespace mxrec
