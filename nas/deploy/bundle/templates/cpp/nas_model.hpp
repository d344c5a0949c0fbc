// Model {{digest}}: images of {{channels}} x {{height}} x {{width}} to {{num_classes}} classes, by onnxruntime's C++ API.
// Generated for this model. Needs C++17 and onnxruntime 1.17 or later. SPDX-License-Identifier: Apache-2.0
//
// {{checked}}
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <vector>

namespace nas_model {

inline constexpr std::size_t kChannels = {{channels}};
inline constexpr std::size_t kHeight = {{height}};
inline constexpr std::size_t kWidth = {{width}};
inline constexpr std::size_t kInputSize = kChannels * kHeight * kWidth;
inline constexpr std::size_t kClasses = {{num_classes}};
inline constexpr const char* kInputName = {{input_name}};
inline constexpr const char* kOutputName = {{output_name}};
// By channel: an input value is (pixel / 255 - mean) / std, with the pixel from 0 to 255.
inline constexpr std::array<float, kChannels> kMean = { {{mean}} };
inline constexpr std::array<float, kChannels> kStd = { {{std}} };
inline constexpr std::array<const char*, kClasses> kLabels = { {{labels}} };

struct Prediction {
  std::size_t index;
  const char* label;
  float probability;
};

// Pixels in rows from the top left, channels of a pixel side by side ({{channel_order}}), kHeight x kWidth of them, to
// the model's input. Resizing is the caller's. How the training images were resized: {{resize}}.
inline std::vector<float> preprocess(const std::uint8_t* pixels) {
  std::vector<float> input(kInputSize);
  for (std::size_t place = 0; place < kHeight * kWidth; ++place) {
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      const float value = static_cast<float>(pixels[place * kChannels + channel]) / 255.0F;
      input[channel * kHeight * kWidth + place] = (value - kMean[channel]) / kStd[channel];
    }
  }
  return input;
}

// The class with the largest logit; the probability is that of the softmax.
inline Prediction prediction(const std::vector<float>& logits) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - static_cast<double>(*largest));
  }
  const auto index = static_cast<std::size_t>(largest - logits.begin());
  return {index, kLabels[index], static_cast<float>(1.0 / sum)};
}

// A session of one model file. Several threads may call it at once.
class Model {
 public:
  // Throws Ort::Exception where the file cannot be loaded, std::runtime_error where it is another model.
  explicit Model(const std::filesystem::path& file, int threads = 1)
      : environment_(ORT_LOGGING_LEVEL_WARNING, "nas_model"), session_(open(environment_, file, threads)) {
    const Ort::TypeInfo info = session_.GetInputTypeInfo(0);
    const std::vector<std::int64_t> shape = info.GetTensorTypeAndShapeInfo().GetShape();
    const std::array<std::int64_t, 3> expected = {kChannels, kHeight, kWidth};
    if (shape.size() != 4 || !std::equal(expected.begin(), expected.end(), shape.begin() + 1)) {
      throw std::runtime_error("the file takes images of another shape than this loader was generated for");
    }
  }

  // Logits of one image as `preprocess` gives it.
  std::vector<float> logits(const std::vector<float>& input) {
    if (input.size() != kInputSize) {
      throw std::invalid_argument("the input must hold one image, channels x height x width");
    }
    const std::array<std::int64_t, 4> shape = {1, kChannels, kHeight, kWidth};
    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value tensor = Ort::Value::CreateTensor<float>(
        memory, const_cast<float*>(input.data()), input.size(), shape.data(), shape.size());
    const char* const inputs[] = {kInputName};
    const char* const outputs[] = {kOutputName};
    const std::vector<Ort::Value> answers = session_.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, 1);
    const float* first = answers.front().GetTensorData<float>();
    return std::vector<float>(first, first + kClasses);
  }

  Prediction classify(const std::uint8_t* pixels) { return prediction(logits(preprocess(pixels))); }

 private:
  static Ort::Session open(const Ort::Env& environment, const std::filesystem::path& file, int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    options.SetInterOpNumThreads(1);
    options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
    return Ort::Session(environment, file.c_str(), options);
  }

  Ort::Env environment_;
  Ort::Session session_;
};

}  // namespace nas_model
