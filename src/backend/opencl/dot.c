/* dot.c - which dot product of 8-bit codes a device has, and the numbers that kernels on codes share. */
#include "backend/opencl/opencl_int.h"

/* Of cl_khr_integer_dot_product, which older headers do not have. */
#define DOT_CAPABILITIES 0x1073 /* CL_DEVICE_INTEGER_DOT_PRODUCT_CAPABILITIES_KHR */
#define DOT_PACKED 1            /* CL_DEVICE_INTEGER_DOT_PRODUCT_INPUT_4x8BIT_PACKED_KHR */
#define DOT_SPEED_PACKED 0x1075 /* CL_DEVICE_INTEGER_DOT_PRODUCT_ACCELERATION_PROPERTIES_4x8BIT_PACKED_KHR */

const char ocl_no_dot[] = "the device has no dot product of codes";

static bool ask(const ocl_device *d, cl_device_info what, size_t size, void *ret) {
    return d->api.clGetDeviceInfo(d->id, what, size, ret, NULL) == CL_SUCCESS;
}

static bool has_extension(const ocl_device *d, const char *name) {
    size_t bytes = 0;
    if (d->api.clGetDeviceInfo(d->id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS || !bytes) return false;
    char *text = ps_alloc_zero(d->base.alloc, bytes + 1);
    const bool has = text && ask(d, CL_DEVICE_EXTENSIONS, bytes, text) && strstr(text, name);
    ps_free(d->base.alloc, text);
    return has;
}

/* A driver may have the functions and no instruction for them. */
static bool is_accelerated(const ocl_device *d) {
    cl_ulong capabilities = 0;
    cl_bool speed[6] = { 0 }; /* signed, unsigned, mixed; the same with saturation */
    return ask(d, DOT_CAPABILITIES, sizeof capabilities, &capabilities) && (capabilities & DOT_PACKED) &&
           ask(d, DOT_SPEED_PACKED, sizeof speed, speed) && speed[0];
}

ocl_dot ocl_find_dot(const ocl_device *d) {
    if (!d->gpu || d->family == OCL_INTEL) return OCL_DOT_NONE; /* whose registers qgemm.c has no tile for */
    if (d->family == OCL_NVIDIA) return ocl_capability(d) >= 61 ? OCL_DOT_NVIDIA : OCL_DOT_NONE;
    return has_extension(d, "cl_khr_integer_dot_product") && is_accelerated(d) ? OCL_DOT_EXTENSION : OCL_DOT_NONE;
}

/* ---- numbers ---- */

static bool one_number(const ps_value *v) {
    return v->constant && ps_tensor_count(v->constant) == 1;
}

bool ocl_linear_at(const ps_node *n, size_t i, ocl_linear *ret) {
    const ps_value *s = n->in[i], *z = ps_has_in(n, i + 1) ? n->in[i + 1] : NULL;
    if (!s || s->dtype != PS_DTYPE_F32 || !one_number(s) || (z && !one_number(z))) return false;
    *ret = (ocl_linear) { *(const float *)s->constant->data, 0 };
    if (z && z->dtype != PS_DTYPE_U8 && z->dtype != PS_DTYPE_I8) return false;
    if (z)
        ret->zero = z->dtype == PS_DTYPE_I8 ? *(const int8_t *)z->constant->data : *(const uint8_t *)z->constant->data;
    return true;
}

void ocl_code_ends(ps_dtype codes, ps_code_range range, float *ret_low, float *ret_high) {
    float low = codes == PS_DTYPE_I8 ? -128 : 0, high = low + 255;
    if ((float)range.low > low) low = (float)range.low;
    if ((float)range.high < high) high = (float)range.high;
    *ret_low = low > high ? high : low; /* a range outside of the type */
    *ret_high = high;
}

ocl_code_sum ocl_code_sum_of(ocl_linear a, ocl_linear b, ocl_linear y, ps_dtype codes, ps_code_range range) {
    ocl_code_sum s = { .fa = a.scale / y.scale, .fb = b.scale / y.scale };
    const float pa = s.fa * (float)a.zero, pb = s.fb * (float)b.zero;
    s.shift = (float)y.zero - (pa + pb);
    ocl_code_ends(codes, range, &s.low, &s.high);
    return s;
}
