"""JSON answers to model objects. Models are imported when first needed: the CLI prints most answers as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from skerry.model.checkpoint import Checkpoint, Diff
    from skerry.model.event import Event
    from skerry.model.exec import ExecResult, ExecSession
    from skerry.model.explanation import Explanation
    from skerry.model.file import FileEvent, FileInfo, FileList
    from skerry.model.guest_service import GuestService
    from skerry.model.image import Image
    from skerry.model.job import Job, Task
    from skerry.model.key import Key, NewKey
    from skerry.model.network import NetworkWithMembers, PrivateNetwork
    from skerry.model.node import Node, NodeWithUse
    from skerry.model.operation import Operation
    from skerry.model.policy import NameAsked, PolicyTest
    from skerry.model.port import ListeningPort, PortState, PublishedPort
    from skerry.model.queue import Queue, QueueWithUse
    from skerry.model.sandbox import Sandbox
    from skerry.model.secret import Secret, SecretWithUsers
    from skerry.model.service import Replica, Revision, Service
    from skerry.model.sleep import Activity, Lease
    from skerry.model.ssh import SshAccess, SshGrant
    from skerry.model.stats import Stats
    from skerry.model.token import MadeToken, Metered, Token
    from skerry.model.url import Url
    from skerry.model.usage import Usage
    from skerry.model.volume import Volume
    from skerry.model.weights import Model, ModelFile


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


def guest_service(body: Any) -> GuestService:
    from skerry.model.guest_service import GuestService

    return _read(GuestService, body)


def guest_services(body: Any) -> list[GuestService]:
    return [guest_service(item) for item in body["items"]]


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


def model(body: Any) -> Model:
    from skerry.model.weights import Model

    return _read(Model, body)


def model_files(body: Any) -> list[ModelFile]:
    from skerry.model.weights import ModelFile

    return [_read(ModelFile, item) for item in body["items"]]


def volume(body: Any) -> Volume:
    from skerry.model.volume import Volume

    return _read(Volume, body)


def secret(body: Any) -> Secret:
    from skerry.model.secret import Secret

    return _read(Secret, body)


def secret_with_users(body: Any) -> SecretWithUsers:
    from skerry.model.secret import SecretWithUsers

    return _read(SecretWithUsers, body)


def node(body: Any) -> Node:
    from skerry.model.node import Node

    return _read(Node, body)


def node_with_use(body: Any) -> NodeWithUse:
    from skerry.model.node import NodeWithUse

    return _read(NodeWithUse, body)


def queue(body: Any) -> Queue:
    from skerry.model.queue import Queue

    return _read(Queue, body)


def queue_with_use(body: Any) -> QueueWithUse:
    from skerry.model.queue import QueueWithUse

    return _read(QueueWithUse, body)


def url(body: Any) -> Url:
    from skerry.model.url import Url

    return _read(Url, body)


def job(body: Any) -> Job:
    from skerry.model.job import Job

    return _read(Job, body)


def task(body: Any) -> Task:
    from skerry.model.job import Task

    return _read(Task, body)


def explanation(body: Any) -> Explanation:
    from skerry.model.explanation import Explanation

    return _read(Explanation, body)


def usage(body: Any) -> Usage:
    from skerry.model.usage import Usage

    return _read(Usage, body)


def service(body: Any) -> Service:
    from skerry.model.service import Service

    return _read(Service, body)


def replicas(body: Any) -> list[Replica]:
    from skerry.model.service import Replica

    return [_read(Replica, item) for item in body["items"]]


def revisions(body: Any) -> list[Revision]:
    from skerry.model.service import Revision

    return [_read(Revision, item) for item in body["items"]]


def metered(body: Any) -> list[Metered]:
    from skerry.model.token import Metered

    return [_read(Metered, item) for item in body["items"]]


def token(body: Any) -> Token:
    from skerry.model.token import Token

    return _read(Token, body)


def made_token(body: Any) -> MadeToken:
    from skerry.model.token import MadeToken

    return _read(MadeToken, body)
