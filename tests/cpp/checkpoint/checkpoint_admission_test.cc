// Version 3: tables that admit and evict, and damage to what they add.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <random>
#include <string>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/checksum.h"
#include "checkpoint/format.h"
#include "checkpoint/manifest.h"
#include "checkpoint/options_json.h"
#include "checkpoint/save.h"
#include "env/fault_env.h"
#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

using checkpoint::Json;

constexpr checkpoint::SaveLimits kSmallParts = {.block_bytes = 1024, .part_bytes = 6000};

TableOptions Admitting(AdmissionMode mode, int num_shards = 4) {
  TableOptions options = Options(OptimizerKind::kAdagrad, num_shards);
  options.admission.threshold = 3;
  options.admission.coefficient = 2;
  options.admission.mode = mode;
  options.admission.expected_keys = 20'000;
  options.eviction.max_age = 60;
  options.eviction.max_rows = 10'000;
  options.eviction.min_l2 = 0.125f;
  return options;
}

void Lookup(Table* table, const std::vector<int64_t>& keys, int64_t time) {
  std::vector<float> out(keys.size() * static_cast<size_t>(table->dim()));
  const std::vector<int64_t> times = {time};
  const Status status = table->LookupOrInsert(keys, out.data(), {.timestamps = times});
  ASSERT_TRUE(status.ok()) << status.message();
}

// Keys with rows, keys with counts, and a threshold that has been changed.
std::shared_ptr<Table> Trained(AdmissionMode mode) {
  auto table = MakeTable(Admitting(mode));
  std::mt19937_64 random(11);
  for (int64_t time = 1000; time < 1020; ++time) {
    std::vector<int64_t> keys(400);
    for (int64_t& key : keys) {
      key = static_cast<int64_t>(random() % (random() % 2 == 0 ? 100 : 8000)) - 50;
    }
    Lookup(table.get(), keys, time);
    std::vector<float> grads(keys.size() * 3, 0.5f);
    ApplyResult result;
    EXPECT_TRUE(table->ApplyGradients(keys, grads.data(), std::nullopt, &result).ok());
  }
  EXPECT_TRUE(table->SetThreshold(7).ok());
  EXPECT_TRUE(table->SetThreshold(0).ok());
  return table;
}

std::vector<int64_t> CountsOf(const Table& table) {
  std::vector<int64_t> keys, counts(8100);
  for (int64_t key = -50; key < 8050; ++key) keys.push_back(key);
  EXPECT_TRUE(table.Counts(keys, counts.data()).ok());
  return counts;
}

// What ScanCounts gives, in an order that does not depend on shards.
std::map<int64_t, std::tuple<uint32_t, uint32_t, std::string>> ScannedCounts(const Table& table) {
  std::map<int64_t, std::tuple<uint32_t, uint32_t, std::string>> all;
  const auto lock = table.LockForRead();
  ScanCursor cursor;
  RowBlock block;
  do {
    EXPECT_TRUE(table.ScanCounts(&cursor, 100, &block, lock.value()).ok());
    const size_t width = block.size() == 0 ? 0 : block.values.size() / block.size();
    for (size_t i = 0; i < block.size(); ++i) {
      const auto* bytes = reinterpret_cast<const char*>(block.values.data() + i * width);
      all[block.keys[i]] = {block.frequency[i], block.last_time[i],
                            std::string(bytes, width * sizeof(float))};
    }
  } while (block.size() > 0);
  return all;
}

AdmissionState StateOf(const Table& table) {
  const auto lock = table.LockForRead();
  return table.admission_state(lock.value());
}

class Admission : public ::testing::TestWithParam<AdmissionMode> {
 protected:
  const TempDir dir_;
  const std::string path_ = dir_ / "t";
};

INSTANTIATE_TEST_SUITE_P(Modes, Admission,
                         ::testing::Values(AdmissionMode::kExact, AdmissionMode::kSketch),
                         [](const auto& mode) { return AdmissionModeName(mode.param); });

TEST_P(Admission, EverythingComesBackForAnyNumberOfShards) {
  const auto table = Trained(GetParam());
  ASSERT_TRUE(checkpoint::SaveWithLimits(*table, path_, 1, Env::Default(), kSmallParts).ok());
  EXPECT_TRUE(std::filesystem::exists(path_ + "/counts-00001"));
  const AdmissionState state = StateOf(*table);
  EXPECT_EQ(state, (AdmissionState{.threshold = 7,
                                   .frozen = true,
                                   .latest_time = 1019,
                                   .time_source = TimeSource::kTimestamps}));
  const auto info = ReadCheckpointInfo(path_);
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info.value().admission_state, state);
  EXPECT_EQ(info.value().options.admission, table->options().admission);
  EXPECT_EQ(info.value().options.eviction, table->options().eviction);
  for (const int shards : {1, 2, 4, 64, 256}) {
    SCOPED_TRACE(shards);
    const auto loaded = LoadTable(path_, shards);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    const Table& again = *loaded.value();
    EXPECT_EQ(again.options().admission, table->options().admission);
    EXPECT_EQ(again.options().eviction, table->options().eviction);
    EXPECT_EQ(StateOf(again), state);
    EXPECT_EQ(ContentsOf(again), ContentsOf(*table));
    EXPECT_EQ(ScannedCounts(again), ScannedCounts(*table));
    EXPECT_EQ(CountsOf(again), CountsOf(*table));
    EXPECT_EQ(again.Stats().counted_keys, table->Stats().counted_keys);
  }
  // They go on alike.
  auto loaded = LoadTable(path_, 16).value();
  for (Table* each : {table.get(), loaded.get()}) {
    ASSERT_TRUE(each->SetThreshold(4).ok());
    std::vector<int64_t> keys;
    for (int64_t key = 0; key < 4000; ++key) keys.push_back(key % 3000);
    Lookup(each, keys, 1040);
    ASSERT_TRUE(each->Evict(1065, std::nullopt).ok());
  }
  EXPECT_EQ(ContentsOf(*loaded), ContentsOf(*table));
  EXPECT_EQ(CountsOf(*loaded), CountsOf(*table));
}

// A sweep that is under way when the table is saved: what is gone is not saved.
TEST_P(Admission, ASaveDuringASweepHoldsWhatIsThere) {
  const auto table = Trained(GetParam());
  ASSERT_TRUE(table->SetThreshold(1).ok());
  Lookup(table.get(), {1, 2, 3, 9000}, 1030);
  EvictionOptions ten;
  ten.max_age = 10;
  ASSERT_TRUE(table->ConfigureEviction(ten).ok());
  ASSERT_TRUE(table->Evict(std::nullopt, 1).ok());
  ASSERT_TRUE(table->Stats().evicting);
  const auto saved = SaveTable(*table, path_, 1);
  ASSERT_TRUE(saved.ok()) << saved.status().message();
  EXPECT_EQ(saved.value().rows, 4);
  const auto loaded = LoadTable(path_, 2).value();
  EXPECT_FALSE(loaded->Stats().evicting);
  EXPECT_EQ(ContentsOf(*loaded), ContentsOf(*table));
  EXPECT_EQ(CountsOf(*loaded), CountsOf(*table));
}

TEST_P(Admission, RestoresIntoTablesWithOtherRules) {
  const auto table = Trained(GetParam());
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  const auto restored = [&](const std::function<void(TableOptions*)>& change) {
    TableOptions options = Admitting(GetParam(), 2);
    change(&options);
    auto other = MakeTable(options);
    const auto info = RestoreTable(other.get(), path_);
    EXPECT_TRUE(info.ok()) << info.status().message();
    EXPECT_EQ(ContentsOf(*other), ContentsOf(*table));
    return other;
  };
  // The same as configured: what was in force when it was saved.
  EXPECT_EQ(StateOf(*restored([](TableOptions*) {})), StateOf(*table));
  // A threshold that the program has changed since: its own.
  auto changed = restored([](TableOptions* o) { o->admission.threshold = 5; });
  EXPECT_EQ(StateOf(*changed).threshold, 5);
  EXPECT_FALSE(StateOf(*changed).frozen);
  EXPECT_EQ(CountsOf(*changed), CountsOf(*table));
  // 0: by history.
  auto history = restored([](TableOptions* o) { o->admission.threshold = 0; });
  EXPECT_FALSE(history->admits_none());
  EXPECT_EQ(StateOf(*history).threshold, 7);
  EXPECT_TRUE(StateOf(*history).frozen);
  // Without admission counts are left out, and times stay.
  auto off = restored([](TableOptions* o) { o->admission = {}; });
  EXPECT_EQ(off->Stats().counted_keys, 0);
  EXPECT_EQ(off->Stats().latest_time, 1019);
  // Another coefficient is no other way of counting.
  EXPECT_EQ(CountsOf(*restored([](TableOptions* o) { o->admission.coefficient = 9; })),
            CountsOf(*table));
}

TEST_P(Admission, CountsOfAnotherKindAreRefused) {
  const auto table = Trained(GetParam());
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  std::vector<TableOptions> others;
  const bool sketch = GetParam() == AdmissionMode::kSketch;
  others.push_back(Admitting(sketch ? AdmissionMode::kExact : AdmissionMode::kSketch));
  if (sketch) {
    others.push_back(Admitting(AdmissionMode::kSketch));
    others.back().admission.expected_keys = 10'000;
  }
  for (const TableOptions& options : others) {
    auto other = MakeTable(options);
    Lookup(other.get(), {1, 1, 1, 2}, 5);
    const Unchanged unchanged(*other);
    const auto result = RestoreTable(other.get(), path_);
    EXPECT_EQ(result.status().code(), StatusCode::kFailedPrecondition);
    EXPECT_NE(result.status().message().find("mode"), std::string::npos)
        << result.status().message();
    unchanged.CheckRows();
    EXPECT_EQ(StateOf(*other).latest_time, 5u);
  }
}

// Tables without rules are written as before; they restore into one that has some, with no counts.
TEST_P(Admission, OlderVersionsRestoreIntoTablesWithRules) {
  const auto plain = MakeTable(Options(OptimizerKind::kAdagrad));
  Train(plain.get(), 200, 3);
  ASSERT_TRUE(SaveTable(*plain, path_, 1).ok());
  EXPECT_NE(ReadFile(path_ + "/manifest").find("\"version\": 1"), std::string::npos);
  auto table = MakeTable(Admitting(GetParam()));
  Lookup(table.get(), {5}, 77);
  ASSERT_TRUE(RestoreTable(table.get(), path_).ok());
  EXPECT_EQ(ContentsOf(*table), ContentsOf(*plain));
  EXPECT_EQ(StateOf(*table).threshold, 3);
  EXPECT_EQ(table->Stats().counted_keys, 0);
}

// --- Damage -------------------------------------------------------------------------------------

class AdmissionDamage : public Admission {
 protected:
  void SetUp() override {
    const auto table = Trained(GetParam());
    ASSERT_TRUE(checkpoint::SaveWithLimits(*table, path_, 1, Env::Default(), kSmallParts).ok());
    target_ = MakeTable(Admitting(GetParam(), 2));
    Lookup(target_.get(), {1, 1, 1, 2}, 5);
    counts_ = CountsOf(*target_);
    unchanged_ = std::make_unique<Unchanged>(*target_);
  }
  void ExpectDataLoss(const std::string& file, const std::string& what) {
    const auto result = RestoreTable(target_.get(), path_);
    ASSERT_EQ(result.status().code(), StatusCode::kDataLoss)
        << what << ": " << result.status().message();
    ASSERT_EQ(result.status().message().rfind(path_ + "/" + file + ": damaged at byte ", 0), 0u)
        << what << ": " << result.status().message();
    unchanged_->Check();
  }
  void Reseal(const std::function<void(Json*)>& change) {
    const std::string text = ReadFile(path_ + "/manifest");
    Json json = Json::parse(text.substr(0, text.size() - 27));
    change(&json);
    const std::string body = json.dump();
    char line[64];
    std::snprintf(line, sizeof(line), "#xxh3-64: %016llx\n",
                  static_cast<unsigned long long>(checkpoint::Checksum(body.data(), body.size())));
    WriteFile(path_ + "/manifest", body + line);
  }

  std::shared_ptr<Table> target_;
  std::vector<int64_t> counts_;
  std::unique_ptr<Unchanged> unchanged_;
};

INSTANTIATE_TEST_SUITE_P(Modes, AdmissionDamage,
                         ::testing::Values(AdmissionMode::kExact, AdmissionMode::kSketch),
                         [](const auto& mode) { return AdmissionModeName(mode.param); });

TEST_P(AdmissionDamage, CountPartsAreCheckedLikeAnyOther) {
  std::mt19937_64 random(TestSeed());
  std::vector<std::string> parts;
  for (const std::string& file : Files(path_)) {
    if (file.starts_with("counts-")) parts.push_back(file);
  }
  ASSERT_GE(parts.size(), 2u);
  for (int trial = 0; trial < 400; ++trial) {
    const std::string name = parts[random() % parts.size()];
    const std::string good = ReadFile(path_ + "/" + name);
    std::string bad = good;
    const size_t at = random() % good.size();
    if (trial % 4 == 0) {
      bad.resize(at);
    } else {
      bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
    }
    WriteFile(path_ + "/" + name, bad);
    ExpectDataLoss(name, "byte " + std::to_string(at));
    WriteFile(path_ + "/" + name, good);
    if (HasFatalFailure()) return;
  }
  const std::string last = ReadFile(path_ + "/counts-00001");
  std::filesystem::remove(path_ + "/counts-00001");
  ExpectDataLoss("counts-00001", "missing");
  WriteFile(path_ + "/counts-00001", ReadFile(path_ + "/counts-00000"));
  ExpectDataLoss("counts-00001", "another part's bytes");
  WriteFile(path_ + "/counts-00001", ReadFile(path_ + "/data-00001"));
  ExpectDataLoss("counts-00001", "a part of rows");
  WriteFile(path_ + "/counts-00001", last);
  EXPECT_EQ(CountsOf(*target_), counts_);
  unchanged_->CheckRows();
  EXPECT_TRUE(RestoreTable(target_.get(), path_).ok()) << "all damage was taken back";
}

TEST_P(AdmissionDamage, AWellSealedLieNamesTheField) {
  struct Case {
    const char* field;
    std::function<void(Json*)> change;
  };
  const Case cases[] = {
      {"'admission.threshold'", [](Json* j) { j->at("admission").erase("threshold"); }},
      {"threshold", [](Json* j) { (*j)["admission"]["threshold"] = -2; }},
      {"threshold", [](Json* j) { (*j)["admission"]["threshold"] = int64_t{1} << 40; }},
      {"coefficient", [](Json* j) { (*j)["admission"]["coefficient"] = 0; }},
      {"'admission.mode'", [](Json* j) { (*j)["admission"]["mode"] = "bloom"; }},
      {"expected_keys", [](Json* j) { (*j)["admission"]["expected_keys"] = 0; }},
      {"'admission'", [](Json* j) { j->erase("admission"); }},
      {"'eviction'", [](Json* j) { j->erase("eviction"); }},
      {"max_age", [](Json* j) { (*j)["eviction"]["max_age"] = -5; }},
      {"'eviction.max_rows'", [](Json* j) { (*j)["eviction"]["max_rows"] = "many"; }},
      {"min_l2", [](Json* j) { (*j)["eviction"]["min_l2"] = -1.0; }},
      {"'admission_state'", [](Json* j) { j->erase("admission_state"); }},
      {"'admission_state.threshold'", [](Json* j) { (*j)["admission_state"]["threshold"] = 0; }},
      {"'admission_state.frozen'", [](Json* j) { (*j)["admission_state"]["frozen"] = 1; }},
      {"'admission_state.latest_time'",
       [](Json* j) { (*j)["admission_state"]["latest_time"] = int64_t{1} << 32; }},
      {"'admission_state.time_source'",
       [](Json* j) { (*j)["admission_state"]["time_source"] = "sundial"; }},
      {"'counts'", [](Json* j) { (*j)["counts"] = -1; }},
      {"'counts'", [](Json* j) { (*j)["counts"] = int64_t{1} << 40; }},
      {"'count_parts'", [](Json* j) { (*j)["count_parts"] = 3; }},
      {"'count_parts[0].file'", [](Json* j) { (*j)["count_parts"][0]["file"] = "data-00000"; }},
      {"'count_parts[1].rows'", [](Json* j) { (*j)["count_parts"][1]["rows"] = 0; }},
      {"'admission'",
       [](Json* j) {
         (*j)["admission"]["threshold"] = -1;
         (*j)["eviction"] = {{"max_age", -1}, {"max_rows", 0}, {"min_l2", 0.0}};
       }},
  };
  const std::string good = ReadFile(path_ + "/manifest");
  for (const Case& c : cases) {
    Reseal(c.change);
    const auto result = RestoreTable(target_.get(), path_);
    EXPECT_EQ(result.status().code(), StatusCode::kDataLoss) << c.field;
    EXPECT_EQ(result.status().message().rfind(path_ + "/manifest: damaged at byte 0: ", 0), 0u)
        << result.status().message();
    EXPECT_NE(result.status().message().find(c.field), std::string::npos)
        << c.field << " not in: " << result.status().message();
    unchanged_->Check();
    WriteFile(path_ + "/manifest", good);
  }
  unchanged_->CheckRows();
}

TEST_P(AdmissionDamage, EveryByteOfTheManifest) {
  const std::string good = ReadFile(path_ + "/manifest");
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x41);
    WriteFile(path_ + "/manifest", bad);
    ExpectDataLoss("manifest", "byte " + std::to_string(i));
    if (HasFatalFailure()) return;
  }
}

// A count that belongs to no block of the sketch, twice to the same key, or to a key that has a
// row, under right checksums.
TEST_P(AdmissionDamage, SealedCountsOfNoKey) {
  const std::string part = path_ + "/counts-00000";
  const std::string good = ReadFile(part);
  constexpr size_t kBlock = sizeof(checkpoint::PartHeader);
  constexpr size_t kKeys = kBlock + sizeof(checkpoint::BlockHeader);
  const auto key_of = [](const std::string& bytes, size_t row) {
    int64_t key;
    std::memcpy(&key, bytes.data() + kKeys + row * sizeof(key), sizeof(key));
    return key;
  };
  const auto write = [&](int64_t first_key) {
    std::string bad = good;
    checkpoint::BlockHeader header;
    std::memcpy(&header, bad.data() + kBlock, sizeof(header));
    std::memcpy(bad.data() + kKeys, &first_key, sizeof(first_key));
    constexpr size_t kCovered = offsetof(checkpoint::BlockHeader, magic);
    header.checksum = checkpoint::Checksum(bad.data() + kBlock + kCovered,
                                           sizeof(header) - kCovered + header.payload_bytes);
    std::memcpy(bad.data() + kBlock, &header, sizeof(header));
    WriteFile(part, bad);
  };
  write(key_of(good, 1));
  ExpectDataLoss("counts-00000", "a repeated key");
  if (GetParam() == AdmissionMode::kSketch) {
    write(-1);
    ExpectDataLoss("counts-00000", "a block that there is not");
  } else {
    const std::string rows = ReadFile(path_ + "/data-00000");
    write(key_of(rows, 0));
    ExpectDataLoss("counts-00000", "a key with a row and a count");
    write(1'000'000);  // a key like any other
    EXPECT_TRUE(RestoreTable(target_.get(), path_).ok());
    return;
  }
  unchanged_->CheckRows();
}

TEST_P(AdmissionDamage, EveryFailedReadIsAnError) {
  FaultEnv env;
  env.FailRead(-1);
  {
    const auto other = MakeTable(Admitting(GetParam()));
    ASSERT_TRUE(RestoreTable(other.get(), path_, &env).ok());
  }
  const int64_t reads = env.reads();
  for (int64_t n = 0; n < reads; n += 3) {
    env.FailRead(n);
    EXPECT_EQ(RestoreTable(target_.get(), path_, &env).status().code(), StatusCode::kIoError)
        << "read " << n;
    unchanged_->Check();
  }
  unchanged_->CheckRows();
}

}  // namespace
}  // namespace mxrec::testing
