#pragma once

#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// Shows calls to several observers, in order before and in reverse order after.
class ObserverList : public GroupObserver {
 public:
  explicit ObserverList(std::vector<GroupObserver*> observers) : observers_(std::move(observers)) {}

  void before(const GroupCall& call) override {
    for (GroupObserver* observer : observers_) observer->before(call);
  }
  void after(const GroupCall& call) override {
    for (auto observer = observers_.rbegin(); observer != observers_.rend(); ++observer) (*observer)->after(call);
  }
  void before_wait(const GroupCall& call) override {
    for (GroupObserver* observer : observers_) observer->before_wait(call);
  }
  void after_wait(const GroupCall& call) override {
    for (auto observer = observers_.rbegin(); observer != observers_.rend(); ++observer) (*observer)->after_wait(call);
  }

 private:
  std::vector<GroupObserver*> observers_;
};

}  // namespace sluice
