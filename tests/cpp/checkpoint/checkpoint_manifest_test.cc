#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/checksum.h"
#include "checkpoint/manifest.h"
#include "checkpoint/options_json.h"

namespace mxrec::checkpoint {
namespace {

using ::mxrec::testing::TestSeed;

Manifest Sample() {
  Manifest manifest;
  CheckpointInfo& info = manifest.info;
  info.uid = "00112233445566778899aabbccddeeff";
  info.step = -7;
  info.rows = 30;
  info.optimizer_step = int64_t{1} << 60;
  info.options.name = "users \"quoted\" \xc3\xa9";
  info.options.dim = 5;
  info.options.memory_rows = 1000;
  info.options.seed = 0xffffffffffffffffull;
  info.options.num_shards = 64;
  info.options.padding_keys = {0, -1, INT64_MIN, INT64_MAX};
  info.options.optimizer.kind = OptimizerKind::kLazyAdam;
  info.options.optimizer.learning_rate = std::nextafter(0.1f, 1.0f);
  info.options.optimizer.epsilon = std::numeric_limits<float>::min();
  info.options.initializer.kind = InitializerKind::kVarianceScaling;
  info.options.initializer.mode = VarianceMode::kFanAvg;
  info.options.initializer.distribution = VarianceDistribution::kUniform;
  info.options.initializer.fan_in = 12;
  manifest.parts = {{1000, 20}, {600, 10}};
  return manifest;
}

// `text` with a right checksum: what a hostile writer could produce.
std::string Seal(const std::string& text) {
  char line[64];
  std::snprintf(line, sizeof(line), "#xxh3-64: %016llx\n",
                static_cast<unsigned long long>(Checksum(text.data(), text.size())));
  return text + line;
}

std::string Body(const std::string& text) { return text.substr(0, text.size() - 27); }

TEST(Manifest, RoundTrip) {
  const Manifest saved = Sample();
  const auto text = EncodeManifest(saved);
  ASSERT_TRUE(text.ok()) << text.status().message();
  const auto loaded = DecodeManifest(text.value(), "m");
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const CheckpointInfo& info = loaded.value().info;
  EXPECT_EQ(info.uid, saved.info.uid);
  EXPECT_EQ(info.step, saved.info.step);
  EXPECT_EQ(info.rows, saved.info.rows);
  EXPECT_EQ(info.optimizer_step, saved.info.optimizer_step);
  EXPECT_EQ(info.options, saved.info.options);
  ASSERT_EQ(loaded.value().parts.size(), 2u);
  EXPECT_EQ(loaded.value().parts[1].bytes, 600u);
  EXPECT_EQ(loaded.value().parts[1].rows, 10u);
  EXPECT_EQ(loaded.value().layout().row_floats, 15u);
}

TEST(Manifest, FloatsAreShortAndExact) {
  EXPECT_EQ(FloatJson(0.01f).dump(), "0.01");
  EXPECT_EQ(FloatJson(1e-8f).dump(), "1e-08");
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    const Json read = Json::parse(FloatJson(value).dump());
    const float back = static_cast<float>(read.get<double>());
    ASSERT_EQ(std::memcmp(&back, &value, sizeof(value)), 0) << value;
  }
}

TEST(Manifest, EveryFlippedBitAndEveryTruncationIsDataLoss) {
  const std::string text = EncodeManifest(Sample()).value();
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      const auto result = DecodeManifest(damaged, "dir/manifest");
      ASSERT_EQ(result.status().code(), StatusCode::kDataLoss) << "byte " << i << " bit " << bit;
      EXPECT_EQ(result.status().message().rfind("dir/manifest: damaged at byte ", 0), 0u)
          << result.status().message();
    }
    ASSERT_EQ(DecodeManifest(text.substr(0, i), "m").status().code(), StatusCode::kDataLoss);
  }
  EXPECT_EQ(DecodeManifest(text + "\n", "m").status().code(), StatusCode::kDataLoss);
}

TEST(Manifest, AWellSealedLieIsDataLossNamingTheField) {
  struct Case {
    const char* field;
    std::function<void(Json*)> change;
  };
  const Case cases[] = {
      {"'format'", [](Json* j) { (*j)["format"] = "other"; }},
      {"'uid'", [](Json* j) { (*j)["uid"] = "XY"; }},
      {"'uid'", [](Json* j) { (*j)["uid"] = "00112233445566778899AABBCCDDEEFF"; }},
      {"'step'", [](Json* j) { (*j)["step"] = 1.5; }},
      {"'step'", [](Json* j) { (*j)["step"] = uint64_t{1} << 63; }},
      {"'rows'", [](Json* j) { (*j)["rows"] = -1; }},
      {"'rows'", [](Json* j) { (*j)["rows"] = 31; }},
      {"'rows'", [](Json* j) { j->erase("rows"); }},
      {"'row_floats'", [](Json* j) { (*j)["row_floats"] = 16; }},
      {"'slots'",
       [](Json* j) {
         (*j)["slots"] = {"m", "w"};
       }},
      {"'slots'", [](Json* j) { (*j)["slots"] = 2; }},
      {"'table.dim'", [](Json* j) { (*j)["table"]["dim"] = 1 << 30; }},
      {"'table.seed'", [](Json* j) { (*j)["table"]["seed"] = -1; }},
      {"'table.name'", [](Json* j) { (*j)["table"] = 1; }},
      {"'table.padding_keys'",
       [](Json* j) {
         (*j)["table"]["padding_keys"] = {1, "2"};
       }},
      {"'optimizer.kind'", [](Json* j) { (*j)["optimizer"]["kind"] = "Adam"; }},
      {"'optimizer.beta1'", [](Json* j) { (*j)["optimizer"]["beta1"] = 1e300; }},
      {"'optimizer.nesterov'", [](Json* j) { (*j)["optimizer"]["nesterov"] = 0; }},
      {"'initializer.mode'", [](Json* j) { (*j)["initializer"]["mode"] = ""; }},
      {"'parts'", [](Json* j) { (*j)["parts"] = "data-00000"; }},
      {"'parts[1].file'", [](Json* j) { (*j)["parts"][1]["file"] = "../../etc/passwd"; }},
      {"'parts[0].bytes'", [](Json* j) { (*j)["parts"][0]["bytes"] = -5; }},
      {"'parts[0].rows'", [](Json* j) { (*j)["parts"][0]["rows"] = 0; }},
      {"'parts[1].rows'", [](Json* j) { (*j)["parts"][1]["rows"] = INT64_MAX; }},
  };
  const std::string text = EncodeManifest(Sample()).value();
  for (const Case& c : cases) {
    Json json = Json::parse(Body(text));
    c.change(&json);
    const auto result = DecodeManifest(Seal(json.dump()), "m");
    EXPECT_EQ(result.status().code(), StatusCode::kDataLoss) << c.field;
    EXPECT_NE(result.status().message().find(c.field), std::string::npos)
        << c.field << " not in: " << result.status().message();
  }
}

TEST(Manifest, ValuesThatNoTableCanHaveAreDataLoss) {
  const std::string text = EncodeManifest(Sample()).value();
  Json json = Json::parse(Body(text));
  json["optimizer"]["beta1"] = 1.5;
  EXPECT_EQ(DecodeManifest(Seal(json.dump()), "m").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(DecodeManifest(Seal("[]"), "m").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(DecodeManifest(Seal("{\"format\":"), "m").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(DecodeManifest(Seal(std::string(1 << 20, '[')), "m").status().code(),
            StatusCode::kDataLoss);
}

TEST(Manifest, SegmentsComeBack) {
  Manifest manifest = Sample();
  manifest.segments = {{.bytes = 1 << 20, .records = 1000, .rows = 900, .run = UINT64_MAX, .id = 7},
                       {.bytes = 8192, .records = 3, .rows = 0, .run = 1, .id = 0}};
  manifest.segment_rows_bytes = 200;
  manifest.info.rows += 900;
  const std::string text = EncodeManifest(manifest).value();
  const auto decoded = DecodeManifest(text, "m");
  ASSERT_TRUE(decoded.ok()) << decoded.status().message();
  EXPECT_EQ(decoded.value().version(), 5u);
  EXPECT_EQ(decoded.value().segments, manifest.segments);
  EXPECT_EQ(decoded.value().segment_rows(), 900);
  EXPECT_EQ(decoded.value().info.bytes, manifest.BytesWith(text.size()));
  // More rows in segments than there are at all.
  Json json = Json::parse(Body(text));
  json["rows"] = 10;
  EXPECT_EQ(DecodeManifest(Seal(json.dump()), "m").status().code(), StatusCode::kDataLoss);
}

TEST(Manifest, ANewerVersionSaysSo) {
  Json json = Json::parse(Body(EncodeManifest(Sample()).value()));
  json["version"] = 6;
  const auto result = DecodeManifest(Seal(json.dump()), "m");
  EXPECT_EQ(result.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(result.status().message().find("version 6"), std::string::npos);
}

TEST(Manifest, ANameThatIsNotUtf8IsRefused) {
  Manifest manifest = Sample();
  manifest.info.options.name = "\xff";
  EXPECT_EQ(EncodeManifest(manifest).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mxrec::checkpoint
