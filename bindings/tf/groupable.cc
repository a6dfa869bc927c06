#include "groupable.h"

#include <algorithm>
#include <string>

#include "tf_c_abi.h"

namespace mxrec::tf {
namespace {

constexpr int kNone = Groupable::kNoOptionalInput;

const std::vector<Groupable>& All() {
  using List = Groupable::List;
  const List keys{"T", kAttrType, TF_INT64};
  const List unique_size{"unique_size", kAttrInt};
  const List coefficient{"coefficient", kAttrInt};
  const List makes_rows{"makes_rows", kAttrInt, 1};
  const List combiner{"combiner", kAttrString};
  const List num_weights{"num_weights", kAttrInt};
  const std::vector<int64_t> training{TF_FLOAT, TF_INT64, TF_INT64, TF_INT32};
  constexpr auto kLookup = Groupable::kLookup;
  constexpr auto kRestore = Groupable::kRestore;
  constexpr auto kGradient = Groupable::kGradient;
  static const auto* all = new std::vector<Groupable>{
      {"MxrecLookup",
       "MxrecGroupedLookup",
       kLookup,
       6,
       kNone,
       training,
       {keys, unique_size, coefficient, makes_rows}},
      {"MxrecLookupUnique",
       "MxrecGroupedLookupUnique",
       kLookup,
       6,
       kNone,
       training,
       {keys, unique_size, coefficient, makes_rows}},
      {"MxrecPooledLookup",
       "MxrecGroupedPooledLookup",
       kLookup,
       7,
       kNone,
       training,
       {keys, unique_size, coefficient, makes_rows, combiner}},
      {"MxrecRead", "MxrecGroupedRead", kLookup, 4, kNone, {TF_FLOAT}, {keys}},
      {"MxrecPooledRead",
       "MxrecGroupedPooledRead",
       kLookup,
       5,
       2,
       {TF_FLOAT},
       {keys, combiner, num_weights}},
      {"MxrecRestore", "MxrecGroupedRestore", kRestore, 2, kNone, {TF_FLOAT}, {}},
      {"MxrecSegmentSum", "MxrecGroupedSegmentSum", kGradient, 3, kNone, {TF_FLOAT}, {}},
      {"MxrecPooledRestore",
       "MxrecGroupedPooledRestore",
       kRestore,
       3,
       0,
       {TF_FLOAT},
       {combiner, num_weights}},
      {"MxrecPooledSegmentSum",
       "MxrecGroupedPooledSegmentSum",
       kGradient,
       4,
       0,
       {TF_FLOAT},
       {combiner, num_weights}},
      {"MxrecPooledWeightGradients",
       "MxrecGroupedPooledWeightGradients",
       kGradient,
       4,
       0,
       {TF_FLOAT},
       {combiner, num_weights}},
  };
  return *all;
}

}  // namespace

const Groupable* Groupable::Find(const Node& node) {
  if (!node.op.starts_with("Mxrec")) return nullptr;
  const auto& all = All();
  const auto kind = std::find_if(all.begin(), all.end(),
                                 [&](const Groupable& each) { return node.op == each.op; });
  return kind == all.end() ? nullptr : &*kind;
}

bool Groupable::MayBeIn(std::string_view graph_def) {
  return graph_def.find("Mxrec") != std::string_view::npos;
}

}  // namespace mxrec::tf
