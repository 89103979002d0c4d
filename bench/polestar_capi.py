"""polestar's public C API through ctypes: just enough to load a model and run it on numpy arrays.

The structs mirror include/polestar/*.h; each carries its size, so that the library knows what this module knows.
"""

import ctypes as c

import numpy as np

MAX_RANK = 8
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
          10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}
NUMBERS = {np.dtype(kind): number for number, kind in DTYPES.items()}


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("file", c.c_char_p), ("line", c.c_int), ("msg", c.c_char * 512)]


class Shape(c.Structure):
    _fields_ = [("rank", c.c_int32), ("dims", c.c_int64 * MAX_RANK)]


class EngineOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("allocator", c.c_void_p), ("log", c.c_void_p), ("log_ctx", c.c_void_p),
                ("threads", c.c_int), ("cache_dir", c.c_char_p), ("cache_bytes", c.c_uint64)]


class SessionOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("threads", c.c_int), ("profile", c.c_bool),
                ("device", c.c_char_p)]


class ValueInfo(c.Structure):
    _fields_ = [("size", c.c_size_t), ("name", c.c_char_p), ("dtype", c.c_int), ("shape", Shape)]


class Library:
    """One loaded libpolestar."""

    def __init__(self, path):
        self.c = c.CDLL(str(path))
        for name in ("ps_version", "ps_build_info"):
            getattr(self.c, name).restype = c.c_char_p
        for name in ("ps_model_input_count", "ps_model_output_count", "ps_engine_memory"):
            getattr(self.c, name).restype = c.c_size_t
        self.c.ps_tensor_shape.restype = c.POINTER(Shape)
        self.c.ps_tensor_data_const.restype = c.c_void_p

    def check(self, status, error):
        if status:
            raise RuntimeError(error.msg.decode(errors="replace") or f"status {status}")

    def call(self, name, *arguments):
        error = Error()
        self.check(getattr(self.c, name)(*arguments, c.byref(error)), error)


class Session:
    """A model loaded for `threads` threads and one session of it. Keep it alive while outputs are in use."""

    def __init__(self, library, path, threads):
        self.library = library
        self.engine, self.model, self.session = c.c_void_p(), c.c_void_p(), c.c_void_p()
        options = EngineOptions(size=c.sizeof(EngineOptions), threads=threads)
        library.call("ps_engine_create", c.byref(options), c.byref(self.engine))
        library.call("ps_model_load", self.engine, str(path).encode(), None, c.byref(self.model))
        library.call("ps_session_create", self.model,
                     c.byref(SessionOptions(size=c.sizeof(SessionOptions), threads=threads)), c.byref(self.session))
        self.inputs = self.names("input")
        self.outputs = (c.c_void_p * library.c.ps_model_output_count(self.model))()

    def names(self, kind):
        found = []
        for index in range(getattr(self.library.c, f"ps_model_{kind}_count")(self.model)):
            info = ValueInfo(size=c.sizeof(ValueInfo))
            if getattr(self.library.c, f"ps_model_{kind}")(self.model, c.c_size_t(index), c.byref(info)):
                raise RuntimeError(f"ps_model_{kind}({index}) failed")
            found.append(info.name.decode())
        return found

    def bind(self, arrays):
        """Wraps {name: array}; the result stays valid while the arrays live. Pass it to run()."""
        tensors = (c.c_void_p * len(self.inputs))()
        self.arrays = [np.asarray(arrays[name], order="C") for name in self.inputs]
        for index, array in enumerate(self.arrays):
            tensor = c.c_void_p()
            shape = Shape(array.ndim, (c.c_int64 * MAX_RANK)(*array.shape))
            self.library.call("ps_tensor_wrap", self.engine, NUMBERS[array.dtype], c.byref(shape), None,
                              array.ctypes.data_as(c.c_void_p), c.byref(tensor))
            tensors[index] = tensor
        return tensors

    def run(self, bound):
        """Runs once; outputs stay in the session until the next run. Returns nothing: the timed part."""
        for index in range(len(self.outputs)):
            self.outputs[index] = None
        error = Error()
        status = self.library.c.ps_session_run(self.session, bound, c.c_size_t(len(bound)), self.outputs,
                                               c.c_size_t(len(self.outputs)), None, c.byref(error))
        self.library.check(status, error)

    def results(self):
        """Copies of the last run's outputs."""
        found = []
        for tensor in self.outputs:
            tensor = c.c_void_p(tensor)
            shape = self.library.c.ps_tensor_shape(tensor).contents
            dims = tuple(shape.dims[:shape.rank])
            kind = np.dtype(DTYPES[self.library.c.ps_tensor_dtype(tensor)])
            count = int(np.prod(dims, dtype=np.int64))
            data = self.library.c.ps_tensor_data_const(tensor)
            raw = c.string_at(data, count * kind.itemsize) if count else b""
            found.append(np.frombuffer(raw, kind).reshape(dims))
        return found

    def close(self, bound=()):
        for tensor in bound:
            self.library.c.ps_tensor_release(c.c_void_p(tensor))
        self.library.c.ps_session_free(self.session)
        self.library.c.ps_model_release(self.model)
        self.library.c.ps_engine_free(self.engine)
