"""Another key for a role, and the renewal of what runs out.

A rotation needs two root keys when a role of the root is concerned, and the targets key when it is
a delegate. The new key lies in `<name>.next.pem` until the old one is revoked in signed metadata,
so that a cut in between loses neither: the same command goes on.
"""

from __future__ import annotations

from typing import Any

from securesystemslib.signer import CryptoSigner

from edge_agent.core.errors import Rejected
from tools.hot_tier.repository import ROOTS, THRESHOLD, Repository

ONLINE = ("snapshot", "timestamp")


def rotate(house: Repository, name: str) -> int:
    """A new key in the place of this one; the version of the root. Raises: Rejected."""
    with house.locked():
        if name in ROOTS or name in ("targets", *ONLINE):
            _rotate_top(house, name)
        else:
            _rotate_delegate(house, name)
        return house.root().signed.version


def _rotate_top(house: Repository, name: str) -> None:
    keys, role = house.keys, "root" if name in ROOTS else name
    old = house.root()
    new = house.root()
    successor = keys.successor(name)
    if successor.public_key.keyid not in new.signed.roles[role].keyids:  # else it was cut off here
        signing = [one for one in ROOTS if keys.has(one)]
        if len(signing) < THRESHOLD:
            hint = "bring two of root-1.pem, root-2.pem, root-3.pem"
            raise Rejected(f"rotate {name}: {len(signing)} root keys are here", hint=hint)
        for keyid in _keyids(house, old.signed.roles[role].keyids, name):
            new.signed.revoke_key(keyid, role)
        new.signed.add_key(successor.public_key, role)
        root = house.dated(new.signed, "root")
        more = [f"{name}.next"] if role == "root" else []
        house.sign_root(root, old.signed, [*signing, *more])
        house.write(f"{root.signed.version}.root.json", root)
    keys.succeed(name)
    if role != "root":
        draft = house.open()
        if role == "targets":
            draft.role(role)
            draft.changed.add(role)
        draft.commit()


def _keyids(house: Repository, there: list[str], name: str) -> list[str]:
    """What the key of this name is called in a root. A lost one is whoever is not here."""
    if name not in ROOTS:
        return list(there)
    if house.keys.has(name):
        return [house.keys.signer(name).public_key.keyid]
    others = {
        house.keys.signer(one).public_key.keyid
        for one in ROOTS
        if one != name and house.keys.has(one)
    }
    lost = [keyid for keyid in there if keyid not in others]
    if len(lost) != 1:
        raise Rejected(f"rotate {name}: which key it was is not clear", hint="bring the others")
    return lost


def _rotate_delegate(house: Repository, name: str) -> None:
    draft = house.open()
    top = draft.role("targets")
    delegates: dict[str, Any] = (top.delegations.roles if top.delegations else None) or {}
    if name not in delegates:
        known = ", ".join([*ROOTS, "targets", *ONLINE, *delegates])
        raise Rejected(f"rotate {name}: expected one of {known}")
    house.keys.signer("targets")  # before anything is changed
    successor: CryptoSigner = house.keys.successor(name)
    for keyid in list(delegates[name].keyids):
        top.revoke_key(keyid, name)
    top.add_key(successor.public_key, name)
    draft.role(name)
    draft.changed |= {"targets", name}
    house.keys.succeed(name)
    draft.commit()


def renew(house: Repository) -> list[str]:
    """Signs snapshot and timestamp anew, and every role that runs out soon and has its key here.

    What runs out and could not be signed, in words. Raises: Rejected.
    """
    left: list[str] = []
    with house.change() as draft:
        for name in draft.names():
            if not house.soon(draft.role(name).expires):
                continue
            if house.keys.has(name):
                draft.changed.add(name)
            else:
                left.append(f"{name} ends {draft.role(name).expires:%Y-%m-%d}; its key is away")
    root = house.root().signed
    if house.soon(root.expires):
        left.append(f"root ends {root.expires:%Y-%m-%d}; rotate one of its keys")
    return left
