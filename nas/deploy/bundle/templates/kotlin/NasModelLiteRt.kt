// Model {{digest}} by LiteRT's Interpreter. SPDX-License-Identifier: Apache-2.0
//
// Never compiled against LiteRT and never run on a device where this was made: written from the documentation of its
// Java API. Check it by goldenError (NasModel.kt) first.
package nasmodel

import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.roundToInt

/** An interpreter of one `.tflite` file; `model` is a direct buffer of its bytes, e.g. mapped from the assets. */
class NasModelLiteRt(model: ByteBuffer, threads: Int = 1) : AutoCloseable {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))

    init {
        val shape = interpreter.getInputTensor(0).shape().toList()
        val expected = listOf(1, NasModel.CHANNELS, NasModel.HEIGHT, NasModel.WIDTH)
        require(shape == expected) { "the file takes $shape, this loader was generated for $expected" }
    }

    /** Logits of one image as `NasModel.preprocess` gives it. */
    fun logits(input: FloatArray): FloatArray {
        require(input.size == NasModel.INPUT_SIZE) { "must hold one image, got ${input.size} values" }
        val output = interpreter.getOutputTensor(0)
        val answer = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        interpreter.run(encoded(input, interpreter.getInputTensor(0)), answer)
        answer.rewind()
        return decoded(answer, output)
    }

    fun classify(pixels: ByteArray): Prediction = NasModel.prediction(logits(NasModel.preprocess(pixels)))

    override fun close() = interpreter.close()

    private fun encoded(values: FloatArray, tensor: Tensor): ByteBuffer {
        val buffer = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        val quantisation = tensor.quantizationParams()
        for (value in values) {
            when (tensor.dataType()) {
                DataType.FLOAT32 -> buffer.putFloat(value)
                DataType.INT8 -> buffer.put(whole(value, quantisation, -128, 127).toByte())
                DataType.UINT8 -> buffer.put(whole(value, quantisation, 0, 255).toByte())
                else -> error("an input of ${tensor.dataType()} is not known")
            }
        }
        buffer.rewind()
        return buffer
    }

    private fun whole(value: Float, quantisation: Tensor.QuantizationParams, low: Int, high: Int): Int =
        ((value / quantisation.scale).roundToInt() + quantisation.zeroPoint).coerceIn(low, high)

    private fun decoded(buffer: ByteBuffer, tensor: Tensor): FloatArray {
        val quantisation = tensor.quantizationParams()
        return FloatArray(NasModel.CLASSES) {
            when (tensor.dataType()) {
                DataType.FLOAT32 -> buffer.getFloat()
                DataType.INT8 -> (buffer.get().toInt() - quantisation.zeroPoint) * quantisation.scale
                DataType.UINT8 -> ((buffer.get().toInt() and 0xFF) - quantisation.zeroPoint) * quantisation.scale
                else -> error("an output of ${tensor.dataType()} is not known")
            }
        }
    }
}
