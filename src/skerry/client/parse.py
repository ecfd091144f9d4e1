"""JSON answers to model objects. Models are imported when first needed: the CLI prints most answers as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from skerry.model.checkpoint import Checkpoint, Diff
    from skerry.model.event import Event
    from skerry.model.exec import ExecResult, ExecSession
    from skerry.model.file import FileEvent, FileInfo, FileList
    from skerry.model.image import Image
    from skerry.model.key import Key, NewKey
    from skerry.model.network import NetworkWithMembers, PrivateNetwork
    from skerry.model.node import Node
    from skerry.model.operation import Operation
    from skerry.model.policy import NameAsked, PolicyTest
    from skerry.model.port import ListeningPort, PortState, PublishedPort
    from skerry.model.sandbox import Sandbox
    from skerry.model.service import Service
    from skerry.model.sleep import Activity, Lease
    from skerry.model.ssh import SshAccess, SshGrant
    from skerry.model.stats import Stats
    from skerry.model.url import Url


def _read(kind: type[BaseModel], body: Any) -> Any:
    # A newer server may answer with fields this client does not know; requests stay strict.
    return kind.model_validate(body, extra="ignore")


def anything(body: Any) -> Any:
    return body


def nothing(body: Any) -> None:
    del body


def sandbox(body: Any) -> Sandbox:
    from skerry.model.sandbox import Sandbox

    return _read(Sandbox, body)


def checkpoint(body: Any) -> Checkpoint:
    from skerry.model.checkpoint import Checkpoint

    return _read(Checkpoint, body)


def diff(body: Any) -> Diff:
    from skerry.model.checkpoint import Diff

    return _read(Diff, body)


def image(body: Any) -> Image:
    from skerry.model.image import Image

    return _read(Image, body)


def images(body: Any) -> list[Image]:
    return [image(item) for item in body["items"]]


def exec_result(body: Any) -> ExecResult:
    from skerry.model.exec import ExecResult

    return _read(ExecResult, body)


def exec_session(body: Any) -> ExecSession:
    from skerry.model.exec import ExecSession

    return _read(ExecSession, body)


def exec_sessions(body: Any) -> list[ExecSession]:
    return [exec_session(item) for item in body["items"]]


def file_info(body: Any) -> FileInfo:
    from skerry.model.file import FileInfo

    return _read(FileInfo, body)


def file_list(body: Any) -> FileList:
    from skerry.model.file import FileList

    return _read(FileList, body)


def file_event(body: Any) -> FileEvent:
    from skerry.model.file import FileEvent

    return _read(FileEvent, body)


def stats(body: Any) -> Stats:
    from skerry.model.stats import Stats

    return _read(Stats, body)


def activity(body: Any) -> Activity:
    from skerry.model.sleep import Activity

    return _read(Activity, body)


def lease(body: Any) -> Lease:
    from skerry.model.sleep import Lease

    return _read(Lease, body)


def policy_test(body: Any) -> PolicyTest:
    from skerry.model.policy import PolicyTest

    return _read(PolicyTest, body)


def name_asked(body: Any) -> NameAsked:
    from skerry.model.policy import NameAsked

    return _read(NameAsked, body)


def port(body: Any) -> PublishedPort:
    from skerry.model.port import PublishedPort

    return _read(PublishedPort, body)


def ports(body: Any) -> list[PublishedPort]:
    return [port(item) for item in body["items"]]


def port_states(body: Any) -> list[PortState]:
    from skerry.model.port import PortState

    return [_read(PortState, item) for item in body["items"]]


def listening_ports(body: Any) -> list[ListeningPort]:
    from skerry.model.port import ListeningPort

    return [_read(ListeningPort, item) for item in body["items"]]


def ssh_access(body: Any) -> SshAccess:
    from skerry.model.ssh import SshAccess

    return _read(SshAccess, body)


def ssh_grant(body: Any) -> SshGrant:
    from skerry.model.ssh import SshGrant

    return _read(SshGrant, body)


def service(body: Any) -> Service:
    from skerry.model.service import Service

    return _read(Service, body)


def services(body: Any) -> list[Service]:
    return [service(item) for item in body["items"]]


def operation(body: Any) -> Operation:
    from skerry.model.operation import Operation

    return _read(Operation, body)


def event(body: Any) -> Event:
    from skerry.model.event import Event

    return _read(Event, body)


def key(body: Any) -> Key:
    from skerry.model.key import Key

    return _read(Key, body)


def new_key(body: Any) -> NewKey:
    from skerry.model.key import NewKey

    return _read(NewKey, body)


def network(body: Any) -> PrivateNetwork:
    from skerry.model.network import PrivateNetwork

    return _read(PrivateNetwork, body)


def network_with_members(body: Any) -> NetworkWithMembers:
    from skerry.model.network import NetworkWithMembers

    return _read(NetworkWithMembers, body)


def node(body: Any) -> Node:
    from skerry.model.node import Node

    return _read(Node, body)


def url(body: Any) -> Url:
    from skerry.model.url import Url

    return _read(Url, body)
