/* What the network takes and gives. @HEAD@ */
#ifndef NAS_MODEL_H_
#define NAS_MODEL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Input: int8, channels first. */
#define NAS_MODEL_CHANNELS @CHANNELS@
#define NAS_MODEL_HEIGHT @HEIGHT@
#define NAS_MODEL_WIDTH @WIDTH@
#define NAS_MODEL_INPUT_SIZE (NAS_MODEL_CHANNELS * NAS_MODEL_HEIGHT * NAS_MODEL_WIDTH)
#define NAS_MODEL_CLASSES @CLASSES@

/* value = (integer - ZERO_POINT) * SCALE */
#define NAS_MODEL_INPUT_SCALE @INPUT_SCALE@f
#define NAS_MODEL_INPUT_ZERO_POINT (@INPUT_ZERO_POINT@)
#define NAS_MODEL_OUTPUT_SCALE @OUTPUT_SCALE@f
#define NAS_MODEL_OUTPUT_ZERO_POINT (@OUTPUT_ZERO_POINT@)

/* @ARENA_WORDS@
   nas_model_arena_used() tells what your build needs: shrink this, or raise it where nas_model_setup() fails. */
#ifndef NAS_MODEL_ARENA_SIZE
#define NAS_MODEL_ARENA_SIZE @ARENA@
#endif

static const char *const nas_model_labels[NAS_MODEL_CLASSES] = {
@LABELS@
};

/* By channel: the network takes (pixel / 255 - mean) / std. */
static const float nas_model_mean[NAS_MODEL_CHANNELS] = {@MEAN@};
static const float nas_model_std[NAS_MODEL_CHANNELS] = {@STD@};

/* A pixel of 0 to 255 as the network takes it. */
static inline int8_t nas_model_pixel(uint8_t pixel, int channel) {
  const float value = ((float)pixel / 255.0f - nas_model_mean[channel]) / nas_model_std[channel];
  const float steps = value / NAS_MODEL_INPUT_SCALE;
  const int rounded = (int)(steps + (steps < 0 ? -0.5f : 0.5f)) + NAS_MODEL_INPUT_ZERO_POINT;
  return (int8_t)(rounded < -128 ? -128 : rounded > 127 ? 127 : rounded);
}

/* A logit from what nas_model_run() gave. */
static inline float nas_model_logit(int8_t value) {
  return (float)(value - NAS_MODEL_OUTPUT_ZERO_POINT) * NAS_MODEL_OUTPUT_SCALE;
}

/* Builds the interpreter, once. 0, or: 1 another schema version, 2 an operator is missing, 3 the arena is too small. */
int nas_model_setup(void);

/* Runs the network; logits takes NAS_MODEL_CLASSES numbers. 0, or 4 where it failed. */
int nas_model_run(const int8_t *image, int8_t *logits);

/* Bytes of the arena that are in use after nas_model_setup(). */
unsigned long nas_model_arena_used(void);

#ifdef __cplusplus
}
#endif

#endif /* NAS_MODEL_H_ */
