/* run.c - a complete program with the public API: loads a model, runs it on a made-up input, prints its outputs.
 *
 *     cc run.c $(pkg-config --cflags --libs polestar) -o run && ./run model.onnx
 */
#include <polestar/polestar.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST 64 /* inputs and outputs this example can handle */

typedef struct program {
    ps_engine *engine;
    ps_model *model;
    ps_session *session;
    ps_tensor *inputs[MOST];
    ps_tensor *outputs[MOST]; /* owned by the session */
} program;

/* A tensor for one declared input: symbolic dims become 1, f32 elements a ramp from 0 to 1, all others 0. */
static ps_status make_input(program *self, size_t index, ps_error *error) {
    ps_value_info info = { .size = sizeof info };
    ps_status status = ps_model_input(self->model, index, &info);
    if (status != PS_OK) return status;
    for (int dim = 0; dim < info.shape.rank; dim++)
        if (info.shape.dims[dim] < 0) info.shape.dims[dim] = 1;
    status = ps_tensor_create(self->engine, info.dtype, &info.shape, &self->inputs[index], error);
    if (status != PS_OK || info.dtype != PS_DTYPE_F32) return status;
    float *data = ps_tensor_data(self->inputs[index]);
    size_t elements = ps_tensor_elements(self->inputs[index]);
    for (size_t i = 0; i < elements; i++)
        data[i] = (float)i / (float)elements;
    return PS_OK;
}

static void print_output(program *self, size_t index) {
    ps_value_info info = { .size = sizeof info };
    if (ps_model_output(self->model, index, &info) != PS_OK) return;
    ps_tensor *tensor = self->outputs[index];
    const ps_shape *shape = ps_tensor_shape(tensor);
    printf("%s: %s [", info.name, ps_dtype_name(ps_tensor_dtype(tensor)));
    for (int dim = 0; dim < shape->rank; dim++)
        printf("%s%lld", dim ? ", " : "", (long long)shape->dims[dim]);
    printf("]");
    if (ps_tensor_dtype(tensor) == PS_DTYPE_F32) {
        const float *data = ps_tensor_data_const(tensor);
        for (size_t i = 0; i < ps_tensor_elements(tensor) && i < 6; i++)
            printf(" %.5g", data[i]);
    }
    printf("\n");
}

static ps_status run(program *self, const char *path, ps_error *error) {
    ps_status status = ps_engine_create(NULL, &self->engine, error);
    if (status == PS_OK) status = ps_model_load(self->engine, path, NULL, &self->model, error);
    if (status == PS_OK) status = ps_session_create(self->model, NULL, &self->session, error);
    if (status != PS_OK) return status;
    size_t n_inputs = ps_model_input_count(self->model), n_outputs = ps_model_output_count(self->model);
    if (n_inputs > MOST || n_outputs > MOST) return PS_LIMIT;
    for (size_t i = 0; i < n_inputs && status == PS_OK; i++)
        status = make_input(self, i, error);
    if (status == PS_OK)
        status = ps_session_run(self->session, (const ps_tensor *const *)self->inputs, n_inputs, self->outputs,
                                n_outputs, NULL, error);
    for (size_t i = 0; i < n_outputs && status == PS_OK; i++)
        print_output(self, i);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: run MODEL.onnx\n");
        return 2;
    }
    program self = { 0 };
    ps_error error = PS_ERROR_INIT;
    ps_status status = run(&self, argv[1], &error);
    if (status != PS_OK) fprintf(stderr, "run: %s\n", error.msg[0] ? error.msg : ps_status_text(status));
    for (size_t i = 0; i < MOST; i++)
        ps_tensor_release(self.inputs[i]);
    ps_session_free(self.session);
    ps_model_release(self.model);
    ps_engine_free(self.engine);
    return status == PS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
