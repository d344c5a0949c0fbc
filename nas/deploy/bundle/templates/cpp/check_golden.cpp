// Runs the files of model {{digest}} on the golden inputs and holds them against the recorded outputs.
// usage: check_golden [folder of the model] [--bench RUNS]     exit code 0: all hold, 1: one does not, 2: cannot run
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "nas_model.hpp"

namespace {

struct Case {
  const char* model;     // relative to the model's folder
  const char* expected;  // float32, little-endian, samples x classes
  double tolerance;      // as a share of the range of the expected outputs
};

constexpr std::size_t kSamples = {{num_samples}};
constexpr Case kCases[] = { {{cases}} };

std::vector<float> read_floats(const std::filesystem::path& file, std::size_t count) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<unsigned char> bytes(count * 4);
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!stream || stream.peek() != std::ifstream::traits_type::eof()) {
    throw std::runtime_error(file.string() + " must hold " + std::to_string(count) + " floats");
  }
  std::vector<float> values(count);
  for (std::size_t k = 0; k < count; ++k) {  // independent of this machine's byte order
    std::uint32_t word = 0;
    for (std::size_t byte = 0; byte < 4; ++byte) {
      word |= static_cast<std::uint32_t>(bytes[4 * k + byte]) << (8 * byte);
    }
    std::memcpy(&values[k], &word, sizeof word);
  }
  return values;
}

bool holds(const std::filesystem::path& folder, const Case& one) {
  using nas_model::kClasses;
  using nas_model::kInputSize;
  nas_model::Model model(folder / one.model);
  const std::vector<float> inputs = read_floats(folder / "golden" / "inputs.bin", kSamples * kInputSize);
  const std::vector<float> expected = read_floats(folder / one.expected, kSamples * kClasses);
  double worst = 0.0;
  std::size_t same = 0;
  for (std::size_t k = 0; k < kSamples; ++k) {
    const auto first = inputs.begin() + static_cast<std::ptrdiff_t>(k * kInputSize);
    const std::vector<float> found = model.logits(std::vector<float>(first, first + kInputSize));
    const std::vector<float> wanted(expected.begin() + static_cast<std::ptrdiff_t>(k * kClasses),
                                    expected.begin() + static_cast<std::ptrdiff_t>((k + 1) * kClasses));
    for (std::size_t c = 0; c < kClasses; ++c) {
      const double off = std::abs(static_cast<double>(found[c]) - static_cast<double>(wanted[c]));
      worst = std::isfinite(off) ? std::max(worst, off) : std::numeric_limits<double>::infinity();
    }
    same += nas_model::prediction(found).index == nas_model::prediction(wanted).index ? 1 : 0;
  }
  const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
  const double extent = std::max(static_cast<double>(*high) - static_cast<double>(*low), 1e-30);
  const bool good = worst <= one.tolerance * extent;
  std::printf("%s  %s  off by %.3g of the range, same class %zu of %zu\n", good ? "ok  " : "FAIL", one.model,
              worst / extent, same, kSamples);
  return good;
}

void bench(const std::filesystem::path& folder, const Case& one, int runs) {
  nas_model::Model model(folder / one.model);
  const std::vector<float> input(nas_model::kInputSize, 0.5F);
  std::vector<double> milliseconds;
  for (int k = -10; k < runs; ++k) {  // ten runs warm up
    const auto start = std::chrono::steady_clock::now();
    model.logits(input);
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
    if (k >= 0) {
      milliseconds.push_back(passed.count());
    }
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto last = static_cast<double>(milliseconds.size() - 1);
  const auto at = [&](double share) { return milliseconds[static_cast<std::size_t>(share * last)]; };
  std::printf("%s  ms on one thread: least %.4f  p50 %.4f  p90 %.4f  p99 %.4f  (%d runs)\n", one.model, at(0.0),
              at(0.5), at(0.9), at(0.99), runs);
}

}  // namespace

int main(int count, char** arguments) {
  std::filesystem::path folder = "../..";
  int runs = 0;
  for (int k = 1; k < count; ++k) {
    if (std::strcmp(arguments[k], "--bench") == 0 && k + 1 < count) {
      runs = std::atoi(arguments[++k]);
    } else {
      folder = arguments[k];
    }
  }
  try {
    bool good = true;
    for (const Case& one : kCases) {
      good = holds(folder, one) && good;
      if (runs > 0) {
        bench(folder, one, runs);
      }
    }
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
