// A forked process has the memory of a table with an SSD tier, but neither its threads nor files of
// its own.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

using testing::Range;

constexpr int kDim = 4;

std::shared_ptr<Table> MakeTable(bool tiered) {
  TableOptions options;
  options.name = "forked";
  options.dim = kDim;
  options.memory_rows = 20'000;
  options.optimizer.kind = OptimizerKind::kSgd;
  options.initializer.kind = InitializerKind::kUniform;
  return Table::Create(tiered ? testing::Tiered(options, 100) : options).value();
}

Status Use(Table* table, const std::vector<int64_t>& keys) {
  std::vector<float> out(keys.size() * kDim);
  return table->LookupOrInsert(keys, out.data());
}

// Runs `body` in a forked process, which is to end by itself; what it returns, or -1.
int InChild(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  for (int i = 0; i < 1000; ++i) {
    int state = 0;
    if (::waitpid(child, &state, WNOHANG) == child)
      return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return -1;
}

// What is wrong with a call's answer; 0: nothing.
int Refused(const Status& status) {
  if (status.code() != StatusCode::kFailedPrecondition) return 1;
  const bool says = status.message().find("table 'forked' has an SSD tier") != std::string::npos &&
                    status.message().find("fork") != std::string::npos;
  return says ? 0 : 2;
}

TEST(TableTiersForkTest, AForkedProcessIsRefusedAndHarmsNothing) {
  std::shared_ptr<Table> table = MakeTable(true);
  for (int64_t key = 0; key < 10'000; key += 1000) {
    ASSERT_TRUE(Use(table.get(), Range(key, key + 1000)).ok());
  }
  EXPECT_TRUE(table->CheckProcess().ok());
  std::vector<float> before(10'000 * kDim), after(10'000 * kDim);
  ASSERT_TRUE(table->Lookup(Range(0, 10'000), nullptr, before.data()).ok());
  EXPECT_EQ(InChild([&] {
              const std::vector<int64_t> keys = Range(0, 10'000);
              std::vector<float> out(keys.size() * kDim);
              ApplyResult result;
              int wrong = Refused(table->Lookup(keys, nullptr, out.data()));
              wrong += Refused(Use(table.get(), keys));
              wrong += Refused(table->ApplyGradients(keys, out.data(), 0.1f, &result));
              wrong += Refused(table->Prefetch(keys));
              wrong += Refused(table->Erase(keys).status());
              wrong += Refused(table->LockForRead().status());
              wrong += Refused(table->BeginSnapshot({}).status());
              wrong += Refused(table->BindOptimizer({.kind = OptimizerKind::kSgd}));
              wrong += Refused(table->ConfigureEviction({}));
              wrong += Refused(table->CheckProcess());
              wrong += !table->closed() && table->size() == 10'000 ? 0 : 100;
              table->Close();
              table.reset();
              return wrong;
            }),
            0);
  EXPECT_EQ(InChild([&] { return table.reset(), 0; }), 0);
  // The parent goes on, on the disk as well.
  ASSERT_TRUE(table->Lookup(Range(0, 10'000), nullptr, after.data()).ok());
  EXPECT_EQ(before, after);
  for (int64_t key = 10'000; key < 19'000; key += 1000) {
    ASSERT_TRUE(Use(table.get(), Range(key, key + 1000)).ok());
  }
  EXPECT_EQ(table->Stats().tiers->background_error, "");
  EXPECT_FALSE(std::filesystem::is_empty(testing::SsdDirectory()));
  table->Close();
  EXPECT_TRUE(std::filesystem::is_empty(testing::SsdDirectory()));
}

TEST(TableTiersForkTest, AForkedProcessUsesTablesInMemoryAndMakesItsOwn) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer lets no forked process start threads";
#endif
  const std::shared_ptr<Table> memory = MakeTable(false), theirs = MakeTable(true);
  ASSERT_TRUE(Use(memory.get(), Range(0, 1000)).ok());
  ASSERT_TRUE(Use(theirs.get(), Range(0, 1000)).ok());
  EXPECT_EQ(InChild([&] {
              if (!Use(memory.get(), Range(500, 1500)).ok() || memory->size() != 1500) return 1;
              std::shared_ptr<Table> own = MakeTable(true);
              if (!Use(own.get(), Range(0, 3000)).ok()) return 2;
              if (!Use(own.get(), Range(3000, 4000)).ok() || own->size() != 4000) return 2;
              if (own->Stats().tiers->ssd_rows == 0) return 3;
              own->Close();
              return 0;
            }),
            0);
  EXPECT_EQ(memory->size(), 1000);
}

}  // namespace
}  // namespace mxrec
