"""The Merkle tree against the reference vectors of Certificate Transparency and plain recursion."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput
from tieline_server.domain import merkle

# Leaves, roots and proofs of the reference implementation (certificate-transparency,
# cpp/merkletree/merkle_tree_test.cc; also google/certificate-transparency-go).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


class Tree:
    """A tree kept as storage keeps it: complete subtrees only, appended in given steps."""

    def __init__(self, leaves: list[bytes], steps: list[int] | None = None) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.size = 0
        left = [merkle.leaf_hash(leaf) for leaf in leaves]
        for step in [*(steps or []), len(leaves)]:
            batch, left = left[:step], left[step:]
            asked: set[tuple[int, int]] = set()

            def read(level: int, number: int, asked: set[tuple[int, int]] = asked) -> bytes:
                asked.add((level, number))
                return self.nodes[(level, number)]

            new = merkle.append(self.size, batch, read)
            assert asked <= set(merkle.frontier(self.size))
            for node in new:
                assert (node.level, node.number) not in self.nodes
                self.nodes[(node.level, node.number)] = node.hash
            self.size += len(batch)

    def node(self, level: int, number: int) -> bytes:
        return self.nodes[(level, number)]


def naive(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962, section 2.1, writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:split]) + naive(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_reference_implementations(size: int) -> None:
    tree = Tree(LEAVES[:size])
    assert merkle.root(size, tree.node).hex() == ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert merkle.root(0, Tree([]).node) == hashlib.sha256(b"").digest() == merkle.EMPTY_ROOT


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_reference_implementations(index: int, size: int) -> None:
    proof = merkle.inclusion_proof(index, size, Tree(LEAVES).node)
    assert [one.hex() for one in proof] == INCLUSION[(index, size)]


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_are_the_reference_implementations(first: int, second: int) -> None:
    proof = merkle.consistency_proof(first, second, Tree(LEAVES).node)
    assert [one.hex() for one in proof] == CONSISTENCY[(first, second)]


leaves = st.lists(st.binary(max_size=8), max_size=70)


@given(leaves, st.lists(st.integers(0, 9), max_size=10))
def test_any_batching_gives_the_recursions_root(data: list[bytes], steps: list[int]) -> None:
    tree = Tree(data, steps)
    for size in range(len(data) + 1):
        assert merkle.root(size, tree.node) == naive(data[:size])


@given(st.integers(1, 70), st.data())
def test_every_proof_verifies_and_no_changed_one_does(size: int, data: st.DataObject) -> None:
    content = [bytes([number]) for number in range(size)]
    tree = Tree(content)
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    root, old = merkle.root(size, tree.node), merkle.root(first, tree.node)
    proof = merkle.inclusion_proof(index, size, tree.node)
    leaf = merkle.leaf_hash(content[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, root], root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, merkle.leaf_hash(root))
    assert not merkle.verify_inclusion(leaf, size, size, proof, root)
    if size > 1:
        assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)
        assert not merkle.verify_inclusion(leaf, (index + 1) % size, size, proof, root)
    path = merkle.consistency_proof(first, size, tree.node)
    assert merkle.verify_consistency(first, size, path, old, root)
    assert not merkle.verify_consistency(first, size, [*path, root], old, root)
    if first < size:
        assert not merkle.verify_consistency(first, size, path, merkle.leaf_hash(old), root)
        assert not merkle.verify_consistency(first, size, path, old, merkle.leaf_hash(root))
        assert not merkle.verify_consistency(first, size, path[:-1], old, root)
        assert not merkle.verify_consistency(first, size, [], old, root)


def test_a_rewritten_history_is_not_consistent() -> None:
    honest, forged = Tree(LEAVES), Tree([b"other", *LEAVES[1:]])
    path = merkle.consistency_proof(4, 8, forged.node)
    roots = merkle.root(4, honest.node), merkle.root(8, forged.node)
    assert not merkle.verify_consistency(4, 8, path, *roots)


def test_the_empty_tree_is_extended_by_any() -> None:
    assert merkle.verify_consistency(0, 8, [], merkle.EMPTY_ROOT, bytes.fromhex(ROOTS[7]))
    assert not merkle.verify_consistency(0, 8, [], b"\x00" * 32, bytes.fromhex(ROOTS[7]))
    assert not merkle.verify_consistency(8, 4, [], b"", b"")


@pytest.mark.parametrize("bad", [(-1, 4), (4, 4), (0, 0)])
def test_no_proof_of_what_is_not_there(bad: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        merkle.inclusion_proof(*bad, Tree(LEAVES).node)


@pytest.mark.parametrize("bad", [(0, 4), (5, 4)])
def test_no_consistency_from_nothing_or_backwards(bad: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        merkle.consistency_proof(*bad, Tree(LEAVES).node)
