"""Malicious files as bytes: pickle opcodes, archives and safetensors."""

import io
import json
import struct
import zipfile

import torch

U32 = struct.Struct("<I").pack


def text(value: str) -> bytes:
    return b"X" + U32(len(value.encode())) + value.encode()


# Tuples that hold the same tuple twice, nested 60 deep: hash() and repr() would take 2**60 steps.
TOWER = b")" + b"2\x86" * 60
ONE_AND_TOWER = {  # opcode or type -> a pickle that hashes TOWER with it
    "SETITEM": b"}" + TOWER + b"Ns.",
    "SETITEMS": b"}(" + TOWER + b"Nu.",
    "DICT": b"(" + TOWER + b"Nd.",
    "ADDITEMS": b"\x80\x04\x8f(" + TOWER + b"\x90.",
    "FROZENSET": b"\x80\x04(" + TOWER + b"\x91.",
    "set": b"\x80\x02cbuiltins\nset\n](" + TOWER + b"e\x85R.",
    "frozenset": b"\x80\x02cbuiltins\nfrozenset\n](" + TOWER + b"e\x85R.",
    "OrderedDict": b"\x80\x02ccollections\nOrderedDict\n](" + TOWER + b"N\x86e\x85R.",
}


def torch_bytes(content, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def archive(pickled: bytes, **parts: bytes) -> bytes:
    """Returns a zip file in torch's layout with the given pickle."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **parts}.items():
            file.writestr(f"archive/{name}", data)
    return target.getvalue()


def tensor_opcodes(size: bytes, stride: bytes, count: bytes, kind: bytes = b"FloatStorage") -> bytes:
    """Returns opcodes of a tensor in storage "0"; the arguments are opcodes that push its declared values."""
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text("0") + text("cpu") + count + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + storage + b"K\x00" + size + stride + b"\x89ccollections\nOrderedDict\n)RtR"


def state_opcodes(tensor: bytes) -> bytes:
    return b"\x80\x02}" + text("a") + tensor + b"s."


def safetensors_bytes(header: dict, data: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data
