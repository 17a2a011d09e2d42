// lowrank - the file LOWRANK_KERNELS once for each level, in the level's namespace.
// SPDX-License-Identifier: MIT

namespace portable {
#define LOWRANK_TARGET LOWRANK_TARGET_PORTABLE
#define LOWRANK_INLINE LOWRANK_INLINE_PORTABLE
#include LOWRANK_KERNELS
#undef LOWRANK_TARGET
#undef LOWRANK_INLINE
}  // namespace portable

#if LOWRANK_X86_KERNELS
namespace avx2 {
#define LOWRANK_TARGET LOWRANK_TARGET_AVX2
#define LOWRANK_INLINE LOWRANK_INLINE_AVX2
#include LOWRANK_KERNELS
#undef LOWRANK_TARGET
#undef LOWRANK_INLINE
}  // namespace avx2
namespace avx512 {
#define LOWRANK_TARGET LOWRANK_TARGET_AVX512
#define LOWRANK_INLINE LOWRANK_INLINE_AVX512
#include LOWRANK_KERNELS
#undef LOWRANK_TARGET
#undef LOWRANK_INLINE
}  // namespace avx512
namespace avx512_bf16 {
#define LOWRANK_TARGET LOWRANK_TARGET_AVX512_BF16
#define LOWRANK_INLINE LOWRANK_INLINE_AVX512_BF16
#include LOWRANK_KERNELS
#undef LOWRANK_TARGET
#undef LOWRANK_INLINE
}  // namespace avx512_bf16
#endif
