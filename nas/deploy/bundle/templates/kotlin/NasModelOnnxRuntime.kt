// Model {{digest}} by onnxruntime-android. SPDX-License-Identifier: Apache-2.0
//
// Never compiled against onnxruntime-android and never run on a device where this was made: written from the
// documentation of its Java API. Check it by goldenError (NasModel.kt) first.
package nasmodel

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer

/** A session of one model file, e.g. `NasModelOnnxRuntime(assets.open("model.int8.onnx").readBytes())`. */
class NasModelOnnxRuntime(model: ByteArray, threads: Int = 1) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession =
        OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            options.setInterOpNumThreads(1)
            environment.createSession(model, options)
        }

    /** Logits of one image as `NasModel.preprocess` gives it. */
    fun logits(input: FloatArray): FloatArray {
        require(input.size == NasModel.INPUT_SIZE) { "must hold one image, got ${input.size} values" }
        val shape = longArrayOf(1, NasModel.CHANNELS.toLong(), NasModel.HEIGHT.toLong(), NasModel.WIDTH.toLong())
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(input), shape).use { tensor ->
            session.run(mapOf(NasModel.INPUT_NAME to tensor), setOf(NasModel.OUTPUT_NAME)).use { answers ->
                val values = (answers.get(0) as OnnxTensor).floatBuffer
                return FloatArray(NasModel.CLASSES).also { values.get(it) }
            }
        }
    }

    fun classify(pixels: ByteArray): Prediction = NasModel.prediction(logits(NasModel.preprocess(pixels)))

    override fun close() = session.close()
}
