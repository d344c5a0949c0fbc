// Model {{digest}}: what its loaders share. Only Foundation. SPDX-License-Identifier: Apache-2.0
//
// {{checked}}
import Foundation

public struct NasPrediction {
    public let index: Int
    public let label: String
    public let probability: Float
}

public enum NasModelError: Error {
    case wrongSize(expected: Int, got: Int)
    case noOutput(String)
}

public enum NasModel {
    public static let channels = {{channels}}
    public static let height = {{height}}
    public static let width = {{width}}
    public static let inputSize = channels * height * width
    public static let classes = {{num_classes}}
    public static let inputName = {{input_name}}
    public static let outputName = {{output_name}}

    /// By channel: an input value is (pixel / 255 - mean) / std, with the pixel from 0 to 255.
    public static let mean: [Float] = [{{mean}}]
    public static let std: [Float] = [{{std}}]
    public static let labels: [String] = [{{labels}}]

    /// Pixels in rows from the top left, channels of a pixel side by side ({{channel_order}}), height x width of them,
    /// to the model's input. Resizing is the caller's. How the training images were resized: {{resize}}.
    public static func preprocess(_ pixels: [UInt8]) throws -> [Float] {
        guard pixels.count == inputSize else {
            throw NasModelError.wrongSize(expected: inputSize, got: pixels.count)
        }
        var input = [Float](repeating: 0, count: inputSize)
        for place in 0..<(height * width) {
            for channel in 0..<channels {
                let value = Float(pixels[place * channels + channel]) / 255
                input[channel * height * width + place] = (value - mean[channel]) / std[channel]
            }
        }
        return input
    }

    /// The class with the largest logit; the probability is that of the softmax.
    public static func prediction(_ logits: [Float]) -> NasPrediction {
        var index = 0
        for k in logits.indices where logits[k] > logits[index] { index = k }
        let sum = logits.reduce(0.0) { $0 + exp(Double($1 - logits[index])) }
        return NasPrediction(index: index, label: labels[index], probability: Float(1 / sum))
    }

    /// The floats of a golden file: float32, little-endian.
    public static func floats(_ content: Data) -> [Float] {
        let bytes = [UInt8](content)
        return stride(from: 0, to: bytes.count - 3, by: 4).map { place in
            let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
            return Float(bitPattern: word)
        }
    }

    /// Largest deviation from the recorded outputs as a share of their range, over all samples of golden/inputs.bin.
    /// It must not exceed the tolerance in golden/golden.json.
    public static func goldenError(
        inputs: Data, expected: Data, logits: ([Float]) throws -> [Float]
    ) rethrows -> Double {
        let images = floats(inputs)
        let wanted = floats(expected)
        var worst = 0.0
        for sample in 0..<(images.count / inputSize) {
            let found = try logits(Array(images[(sample * inputSize)..<((sample + 1) * inputSize)]))
            for k in found.indices {
                worst = max(worst, Double(abs(found[k] - wanted[sample * classes + k])))
            }
        }
        return worst / Double((wanted.max() ?? 0) - (wanted.min() ?? 0))
    }
}
