// Model {{digest}} by onnxruntime's Objective-C API (pod onnxruntime-objc, or its Swift package).
// SPDX-License-Identifier: Apache-2.0
//
// Never compiled against onnxruntime-objc and never run where this was made (no macOS): written from its headers.
// Check it by goldenError (NasModel.swift) first.
import Foundation
import onnxruntime_objc

public final class NasModelOnnxRuntime {
    private let environment: ORTEnv
    private let session: ORTSession

    public init(path: String, threads: Int32 = 1) throws {
        environment = try ORTEnv(loggingLevel: ORTLoggingLevel.warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(threads)
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
    }

    /// Logits of one image as `NasModel.preprocess` gives it.
    public func logits(_ input: [Float]) throws -> [Float] {
        guard input.count == NasModel.inputSize else {
            throw NasModelError.wrongSize(expected: NasModel.inputSize, got: input.count)
        }
        let content = input.withUnsafeBufferPointer { NSMutableData(data: Data(buffer: $0)) }
        let shape = [1, NasModel.channels, NasModel.height, NasModel.width].map { NSNumber(value: $0) }
        let tensor = try ORTValue(tensorData: content, elementType: ORTTensorElementDataType.float, shape: shape)
        let answers = try session.run(
            withInputs: [NasModel.inputName: tensor], outputNames: [NasModel.outputName], runOptions: nil)
        guard let answer = answers[NasModel.outputName] else { throw NasModelError.noOutput(NasModel.outputName) }
        let values = try answer.tensorData() as Data
        return values.withUnsafeBytes { Array($0.bindMemory(to: Float.self).prefix(NasModel.classes)) }
    }

    public func classify(_ pixels: [UInt8]) throws -> NasPrediction {
        NasModel.prediction(try logits(NasModel.preprocess(pixels)))
    }
}
