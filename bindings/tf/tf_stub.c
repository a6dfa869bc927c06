/* What the linker sees instead of libtensorflow_framework.so.2: the names, nothing behind them.
 * It gives _mxrec_tf.so its DT_NEEDED entry and is never installed. */
#define MXREC_TF_CODE(name, value)
#define MXREC_TF_TYPE(name, value)
#define MXREC_TF_FUNCTION(result, name, parameters) \
  __attribute__((visibility("default"))) void name(void) {}
#include "tf_c_functions.inc"
