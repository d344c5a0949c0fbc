// Model {{digest}}: what its loaders share. Pure Kotlin, no Android. SPDX-License-Identifier: Apache-2.0
//
// {{checked}}
package nasmodel

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.exp

/** A class with its probability. */
data class Prediction(val index: Int, val label: String, val probability: Float)

object NasModel {
    const val CHANNELS = {{channels}}
    const val HEIGHT = {{height}}
    const val WIDTH = {{width}}
    const val INPUT_SIZE = CHANNELS * HEIGHT * WIDTH
    const val CLASSES = {{num_classes}}
    const val INPUT_NAME = {{input_name}}
    const val OUTPUT_NAME = {{output_name}}

    /** By channel: an input value is (pixel / 255 - mean) / std, with the pixel from 0 to 255. */
    val MEAN = floatArrayOf({{mean}})
    val STD = floatArrayOf({{std}})
    val LABELS = arrayOf({{labels}})

    /**
     * Pixels in rows from the top left, channels of a pixel side by side ({{channel_order}}), HEIGHT x WIDTH of them, to
     * the model's input. Resizing is the caller's. How the training images were resized: {{resize}}.
     */
    fun preprocess(pixels: ByteArray): FloatArray {
        require(pixels.size == INPUT_SIZE) { "must hold $INPUT_SIZE bytes, got ${pixels.size}" }
        val input = FloatArray(INPUT_SIZE)
        for (place in 0 until HEIGHT * WIDTH) {
            for (channel in 0 until CHANNELS) {
                val value = (pixels[place * CHANNELS + channel].toInt() and 0xFF) / 255f
                input[channel * HEIGHT * WIDTH + place] = (value - MEAN[channel]) / STD[channel]
            }
        }
        return input
    }

    /** The class with the largest logit; the probability is that of the softmax. */
    fun prediction(logits: FloatArray): Prediction {
        var index = 0
        for (k in logits.indices) if (logits[k] > logits[index]) index = k
        val sum = logits.sumOf { exp((it - logits[index]).toDouble()) }
        return Prediction(index, LABELS[index], (1.0 / sum).toFloat())
    }

    /** The floats of a golden file: float32, little-endian. */
    fun floats(content: ByteArray): FloatArray {
        val buffer = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(buffer.remaining()).also { buffer.get(it) }
    }

    /**
     * Largest deviation from the recorded outputs as a share of their range, over all samples of golden/inputs.bin.
     * It must not exceed the tolerance in golden/golden.json.
     */
    fun goldenError(inputs: ByteArray, expected: ByteArray, logits: (FloatArray) -> FloatArray): Double {
        val images = floats(inputs)
        val wanted = floats(expected)
        var worst = 0.0
        for (sample in 0 until images.size / INPUT_SIZE) {
            val found = logits(images.copyOfRange(sample * INPUT_SIZE, (sample + 1) * INPUT_SIZE))
            for (k in found.indices) worst = maxOf(worst, abs(found[k] - wanted[sample * CLASSES + k]).toDouble())
        }
        return worst / (wanted.max() - wanted.min())
    }
}
