/* sha256 of these @SIZE@ bytes: @SHA256@ */
#include "nas_model_data.h"

#include <stdalign.h>

alignas(16) const unsigned char nas_model_data[NAS_MODEL_DATA_SIZE] = {
@BYTES@
};
