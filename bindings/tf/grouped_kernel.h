// Grouped: the kernel of an op that stands for several ops of one kind (member.h). It runs the
// kernel of the single op once for each member.
//
// Members of different tables run at the same time: with many small tables a parallel loop inside
// each would cost more than its work. Members of one table run one after the other, in their order.
// GroupedRows is for kernels without a table: all of its members run at the same time.
//
// Errors: each member succeeds or fails as the single op would, a failing one leaving its table as
// it was; the members of other tables are not taken back. The first error fails the op and names
// the member: its table, or with GroupedRows the node that it was.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernel_context.h"
#include "member.h"
#include "mxrec/status.h"

namespace mxrec::tf {

// Calls compute(i, context of member i) for all members.
using ComputeMember = std::function<Status(int, const KernelContext&)>;
// Input 0 of a member is its table.
Status ComputeMembers(const KernelContext& context, int members, const ComputeMember& compute);
Status ComputeNamedMembers(const KernelContext& context, const std::vector<std::string>& names,
                           const ComputeMember& compute);

template <class Kernel>
class Grouped {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(const int64_t count, attributes.Int("N"));
    members_.resize(static_cast<size_t>(count));
    for (int i = 0; i < size(); ++i) {
      MXREC_RETURN_IF_ERROR(members_[static_cast<size_t>(i)].Init(attributes.Of({i, size()})));
    }
    return {};
  }
  Status Compute(const KernelContext& context) const {
    return ComputeMembers(context, size(), compute());
  }

 protected:
  int size() const { return static_cast<int>(members_.size()); }
  auto compute() const {
    return [this](int i, const KernelContext& member) {
      return members_[static_cast<size_t>(i)].Compute(member);
    };
  }

 private:
  std::vector<Kernel> members_;
};

template <class Kernel>
class GroupedRows : public Grouped<Kernel> {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_RETURN_IF_ERROR(Grouped<Kernel>::Init(attributes));
    for (int i = 0; i < this->size(); ++i) {
      MXREC_ASSIGN_OR_RETURN(std::string name, attributes.Of({i, this->size()}).String("names"));
      names_.push_back(std::move(name));
    }
    return {};
  }
  Status Compute(const KernelContext& context) const {
    return ComputeNamedMembers(context, names_, this->compute());
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace mxrec::tf
