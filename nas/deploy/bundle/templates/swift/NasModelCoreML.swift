// Model {{digest}} by Core ML. SPDX-License-Identifier: Apache-2.0
//
// Never compiled against Core ML and never run where this was made (no macOS): written from Apple's documentation.
// Check it by goldenError (NasModel.swift) first.
import CoreML
import Foundation

public final class NasModelCoreML {
    private let model: MLModel

    /// From a `.mlpackage`, which is compiled first, or from a compiled `.mlmodelc` of the application's bundle.
    public init(contentsOf url: URL, computeUnits: MLComputeUnits = .all) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let compiled = url.pathExtension == "mlmodelc" ? url : try MLModel.compileModel(at: url)
        model = try MLModel(contentsOf: compiled, configuration: configuration)
    }

    /// Logits of one image as `NasModel.preprocess` gives it.
    public func logits(_ input: [Float]) throws -> [Float] {
        guard input.count == NasModel.inputSize else {
            throw NasModelError.wrongSize(expected: NasModel.inputSize, got: input.count)
        }
        let shape = [1, NasModel.channels, NasModel.height, NasModel.width].map { NSNumber(value: $0) }
        let array = try MLMultiArray(shape: shape, dataType: .float32)
        for (k, value) in input.enumerated() { array[k] = NSNumber(value: value) }
        let features = try MLDictionaryFeatureProvider(dictionary: [NasModel.inputName: array])
        guard let answer = try model.prediction(from: features).featureValue(for: NasModel.outputName)?.multiArrayValue
        else { throw NasModelError.noOutput(NasModel.outputName) }
        return (0..<NasModel.classes).map { answer[$0].floatValue }
    }

    public func classify(_ pixels: [UInt8]) throws -> NasPrediction {
        NasModel.prediction(try logits(NasModel.preprocess(pixels)))
    }
}
