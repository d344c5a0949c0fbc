/* Runs the network on one image of the test split and compares with what it gave where it was made. @HEAD@ */
#include <stdio.h>

#include "nas_model.h"

static const int8_t image[NAS_MODEL_INPUT_SIZE] = {
@IMAGE@
};

/* By LiteRT's reference kernels; optimised kernels may be a few steps off. */
static const int8_t expected[NAS_MODEL_CLASSES] = {@EXPECTED@};

int main(void) {
  int8_t logits[NAS_MODEL_CLASSES];
  int best = 0, furthest = 0;
  int failure = nas_model_setup();
  if (failure == 0) failure = nas_model_run(image, logits);
  if (failure != 0) {
    printf("the network failed with %d\n", failure);
    return failure;
  }
  for (int index = 0; index < NAS_MODEL_CLASSES; ++index) {
    const int off = logits[index] > expected[index] ? logits[index] - expected[index] : expected[index] - logits[index];
    if (off > furthest) furthest = off;
    if (logits[index] > logits[best]) best = index;
  }
  printf("%s, logit %d thousandths, at most %d steps off, arena %lu bytes\n", nas_model_labels[best],
         (int)(nas_model_logit(logits[best]) * 1000.0f), furthest, nas_model_arena_used());
  return furthest > 8;
}
