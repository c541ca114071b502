#include "launch/task_report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

/// Common words do not fit into 512 tokens, and nothing does into 64.
const std::vector<TaskAccuracy> kCells = {
    {TaskSuite::NEEDLE, 64, 0, 0, 0},        {TaskSuite::NEEDLE, 512, 8, 8, 3},
    {TaskSuite::NEEDLE, 8192, 8, 8, 1},      {TaskSuite::COMMON_WORDS, 64, 0, 0, 0},
    {TaskSuite::COMMON_WORDS, 512, 0, 0, 0}, {TaskSuite::COMMON_WORDS, 8192, 8, 80, 50},
};

TEST(TaskReport, TableHasACellATaskAndLengthAndMeansOfWhatFits) {
  testing::internal::CaptureStdout();
  print_tasks(kCells);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "\n"
            "accuracy, % of             64      512     8192\n"
            "NEEDLE                      -     37.5     12.5\n"
            "COMMON_WORDS                -        -     62.5\n"
            "  times in the list      10:1     10:1     30:3\n"
            "mean                        -     37.5     37.5\n");
}

TEST(TaskReport, JsonHasTheSame) {
  EXPECT_EQ(tasks_json(kCells), nlohmann::ordered_json::parse(R"({
    "cells": [
      {"task": "NEEDLE", "length": 64, "samples": 0, "accuracy": null},
      {"task": "NEEDLE", "length": 512, "samples": 8, "accuracy": 0.375},
      {"task": "NEEDLE", "length": 8192, "samples": 8, "accuracy": 0.125},
      {"task": "COMMON_WORDS", "length": 64, "samples": 0, "accuracy": null, "times_in_list": {"common": 10, "others": 1}},
      {"task": "COMMON_WORDS", "length": 512, "samples": 0, "accuracy": null, "times_in_list": {"common": 10, "others": 1}},
      {"task": "COMMON_WORDS", "length": 8192, "samples": 8, "accuracy": 0.625, "times_in_list": {"common": 30, "others": 3}}
    ],
    "mean_by_length": [
      {"length": 512, "tasks": 1, "accuracy": 0.375},
      {"length": 8192, "tasks": 2, "accuracy": 0.375}
    ]
  })"));
}

TEST(TaskReport, WithoutCommonWordsNothingIsSaidOfThem) {
  testing::internal::CaptureStdout();
  print_tasks({{TaskSuite::NEEDLE, 512, 8, 8, 8}});
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "\n"
            "accuracy, % of            512\n"
            "NEEDLE                  100.0\n"
            "mean                    100.0\n");
}

}  // namespace
}  // namespace sluice
