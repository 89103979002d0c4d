"""Sequences and optionals. The oracle is ONNX Runtime; what it lacks (new_axis of strings, optionals) the reference evaluator."""

import numpy as np
from onnx import TensorProto, helper

from ops_cases import C, Opt

f32 = lambda *v: np.array(v, np.float32)
i64 = lambda v: np.array(v, np.int64)
text = lambda *v: np.array(v, object)


def basic(add):
    seq = [f32(1, 2), f32(3), np.zeros((2, 0), np.float32)]
    add("SequenceConstruct", 11, [f32(1, 2), f32(3)], want=[[f32(1, 2), f32(3)]])
    add("SequenceConstruct", 11, [text("a", "bc")])
    add("SequenceEmpty", 11, [])
    add("SequenceEmpty", 11, [], dtype=TensorProto.STRING, name="string")
    for dtype in (np.int32, np.int64):
        for at in (0, 2, -1, -3):
            add("SequenceAt", 11, [seq, np.array(at, dtype)])
    add("SequenceAt", 11, [[text("a"), text("b", "")], i64(1)], name="string")
    add("SequenceLength", 11, [seq])
    add("SequenceLength", 11, [[]], name="empty")
    add.fails("TYPE", "SequenceLength", 11, [f32(1)])
    add.fails("TYPE", "SequenceAt", 11, [seq, f32(1)])
    add.fails("TYPE", "SequenceConstruct", 11, [f32(1), i64([1])])


def change(add):
    seq = [f32(1, 2), f32(3), f32()]
    add("SequenceInsert", 11, [seq, f32(9)])
    for at in (0, 1, 2, -1, -3):
        add("SequenceInsert", 11, [seq, f32(9), i64(at)])
    # behind the last element, which ONNX allows and ONNX Runtime does not
    add("SequenceInsert", 11, [seq, f32(9), i64(3)], want=[seq + [f32(9)]], name="end")
    add("SequenceInsert", 11, [[], f32(9)], name="empty", want=[[f32(9)]])
    add("SequenceErase", 11, [seq])
    for at in (0, 1, -1, -3):
        add("SequenceErase", 11, [seq, i64(at)])
    add.fails("TYPE", "SequenceInsert", 11, [seq, i64([1])])


def split(add):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for axis in (0, 1, -1):
        add("SplitToSequence", 11, [x], axis=axis)
        add("SplitToSequence", 11, [x], axis=axis, keepdims=0)
        add("SplitToSequence", 11, [x, i64(2)], axis=axis)
        # a list of sizes keeps the dim whatever keepdims says
        n = x.shape[axis]
        add("SplitToSequence", 11, [x, i64([1, n - 1])], axis=axis, keepdims=0)
    add("SplitToSequence", 11, [x, i64([0, 3, 0])], axis=1, want=[[x[:, :0], x, x[:, :0]]], name="zero")
    add("SplitToSequence", 11, [text("a", "b", "c"), np.array(2, np.int32)], name="string")
    add(
        "SplitToSequence",
        24,
        [x.astype(np.float16)],
        axis=1,
        want=[[x[:, k : k + 1].astype(np.float16) for k in range(3)]],
    )
    add.fails("SHAPE", "SplitToSequence", 11, [x], axis=3)


def concat(add):
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(6, 12, dtype=np.float32).reshape(2, 3)
    for axis in (0, 1, -1):
        add("ConcatFromSequence", 11, [[a, b, a]], axis=axis)
        add("ConcatFromSequence", 11, [[a, b]], axis=axis, new_axis=1)
    add("ConcatFromSequence", 11, [[a, b[:, :1]]], axis=1)
    add("ConcatFromSequence", 11, [[a]], axis=2, new_axis=1)
    add("ConcatFromSequence", 11, [[text("a", "b"), text("c")]], axis=0, name="string")
    add("ConcatFromSequence", 11, [[i64(1), i64(2)]], axis=0, new_axis=1, name="scalar")


def optional(add):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    # expected values by definition: an optional holds what is put into it
    add("Optional", 15, [f32(1, 2)], want=[Opt(f32(1, 2))])
    add("Optional", 15, [[f32(1), f32(2)]], want=[Opt([f32(1), f32(2)])], name="sequence")
    add("Optional", 15, [], want=[Opt(None)], type=tensor, name="empty")
    add("OptionalGetElement", 15, [Opt(f32(1, 2))], want=[f32(1, 2)])
    add("OptionalGetElement", 15, [Opt([f32(1), f32(2)])], want=[[f32(1), f32(2)]], name="sequence")
    add("OptionalGetElement", 18, [f32(1, 2)], want=[f32(1, 2)], name="tensor")
    add("OptionalGetElement", 18, [[text("a")]], want=[[text("a")]], name="sequence")
    for value, there in ((Opt(f32(1)), True), (Opt(None, tensor), False), (Opt([f32(1)]), True)):
        add("OptionalHasElement", 15, [value], want=[np.array(there)])
    add("OptionalHasElement", 18, [f32(1)], want=[np.array(True)], name="tensor")
    add("OptionalHasElement", 18, [[]], want=[np.array(True)], name="sequence")
    add("OptionalHasElement", 18, [None], want=[np.array(False)], name="omitted")
    add("OptionalHasElement", 18, [], want=[np.array(False)], name="none")
    add.fails("FORMAT", "Optional", 15, [])


def identity(add):
    # containers pass through
    add("Identity", 16, [[f32(1, 2), f32()]], want=[[f32(1, 2), f32()]])
    add("Identity", 16, [Opt([text("a")])], want=[Opt([text("a")])])


def build(add):
    for group in (basic, change, split, concat, optional, identity):
        group(add)
