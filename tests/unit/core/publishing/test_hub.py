"""Publishing to the Hub, with its real client and a test server of its protocol."""

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from tasks.core.errors import PublishFailed, PublishRefused, ReleaseCorrupt
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.hub import TRIES, Hub
from tests.hub_releases import REPO, Release, repo_of
from tests.hub_repos import Repo
from tests.hub_server import TOKEN, HubServer


def test_main_has_exactly_the_release_in_one_commit_with_its_tag(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    first = Release(tmp_path, "first", 1)
    commit = first.publish(hub)
    repo = repo_of(hub_server)
    assert repo.files() == first.files
    assert [c.title for c in repo.log("main")] == [f"Generation 1: release {first.entry.release}", "initial commit"]
    assert repo.tags == {"generation-1": commit}
    assert not repo.private


def test_files_of_the_previous_release_stay_under_its_tag_only(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    (first.folder / "old.txt").write_bytes(b"old")
    first.manifest.files["old.txt"] = hashlib.sha256(b"old").hexdigest()
    first.publish(hub)
    assert "old.txt" in repo_of(hub_server).files()
    second.publish(hub)
    assert repo_of(hub_server).files() == second.files
    api = HfApi(endpoint=hub_server.url, token=TOKEN)
    assert "old.txt" in api.list_repo_files(REPO, revision="generation-1")
    path = hf_hub_download(
        REPO, WEIGHTS, revision="generation-1", endpoint=hub_server.url, token=TOKEN, cache_dir=tmp_path / "cache"
    )
    assert Path(path).read_bytes() == first.files[WEIGHTS]


def test_the_second_time_nothing_is_sent(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    commit = first.publish(hub)
    assert set(hub_server.writes) >= {"create", "lfs_upload", "commit", "tag"}
    hub_server.forget()
    assert first.publish(hub) == commit
    assert hub_server.writes == []
    assert hub_server.asked == ["info", "auth_check", "refs", "tree"]
    hub_server.forget()
    assert first.publish(hub) == commit
    assert hub_server.asked == ["refs", "tree"], "access was checked before"


def test_a_failing_commit_leaves_main_as_it_was_and_the_next_try_completes(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    before = first.publish(hub)
    hub_server.faults["commit"] = [500]
    with pytest.raises(PublishFailed, match="the Hub answered 500"):
        second.publish(hub)
    repo = repo_of(hub_server)
    assert (repo.main, repo.files(), repo.tags) == (before, first.files, {"generation-1": before})
    hub_server.forget()
    commit = second.publish(hub)
    assert (repo.main, repo.files(), repo.tags["generation-2"]) == (commit, second.files, commit)
    assert "lfs_upload" not in hub_server.writes, "what was uploaded before the failure is not sent again"


def test_a_failing_upload_leaves_main_as_it_was(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    hub_server.faults["lfs_upload"] = [403, 403]
    with pytest.raises(PublishFailed, match="the Hub answered 403"):
        Release(tmp_path, "first", 1).publish(hub)
    assert repo_of(hub_server).files() == {}


def test_after_an_interruption_before_the_tag_only_the_tag_is_added(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    first = Release(tmp_path, "first", 1)
    hub_server.faults["tag"] = [500]
    with pytest.raises(PublishFailed, match="500"):
        first.publish(hub)
    repo = repo_of(hub_server)
    assert (repo.files(), repo.tags) == (first.files, {})
    hub_server.forget()
    assert first.publish(hub) == repo.main
    assert hub_server.writes == ["tag"]
    assert repo.tags == {"generation-1": repo.main}


@pytest.mark.parametrize(("lost", "left"), [("create", None), ("commit", ["tag"]), ("tag", [])])
def test_a_lost_response_makes_no_second_commit(
    hub_server: HubServer, hub: Hub, tmp_path: Path, lost: str, left: list[str] | None
) -> None:
    first = Release(tmp_path, "first", 1)
    hub_server.lost = [lost]
    with pytest.raises(PublishFailed, match="did not answer"):
        first.publish(hub)
    hub_server.forget()
    commit = first.publish(hub)
    assert left is None or hub_server.writes == left
    repo = repo_of(hub_server)
    assert (repo.main, repo.files(), repo.tags) == (commit, first.files, {"generation-1": commit})
    assert len(repo.log("main")) == 2


def test_a_concurrent_commit_is_not_overwritten(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    hub_server.repos[REPO] = repo = Repo()
    hub_server.meanwhile = [lambda: repo.edit("NOTES.md", b"by hand")]
    first.publish(hub)
    assert repo.files() == first.files
    assert [c.title for c in repo.log("main")][1:] == ["by hand", "initial commit"]
    assert hub_server.writes.count("commit") == 2
    assert hub_server.writes.count("lfs_upload") == 2


def test_repeated_conflicts_fail(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    hub_server.repos[REPO] = repo = Repo()
    hub_server.meanwhile = [lambda: repo.edit("NOTES.md", os.urandom(8)) for _ in range(TRIES)]
    with pytest.raises(PublishFailed, match="412"):
        Release(tmp_path, "first", 1).publish(hub)
    assert hub_server.meanwhile == []


def test_an_older_generation_never_replaces_a_newer_one(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    hub_server.repos[REPO] = repo = Repo()
    hub_server.faults["tag"] = [500]

    def overtaken() -> None:
        with pytest.raises(PublishFailed):
            second.publish(hub)

    hub_server.meanwhile = [overtaken]
    assert first.publish(hub) == repo.main, "the newer one's, which is not tagged yet"
    assert repo.files() == second.files
    assert repo.tags == {}


def test_a_tag_at_another_commit_is_an_error_before_anything_is_sent(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    hub_server.repos[REPO] = repo = Repo()
    repo.tags["generation-1"] = repo.main
    with pytest.raises(PublishRefused, match=r"its tag generation-1 is at commit .* README\.md, .* differ"):
        Release(tmp_path, "first", 1).publish(hub)
    assert hub_server.writes == []


def test_concurrent_publications_of_one_generation_agree(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    hub_server.repos[REPO] = repo = Repo()
    other: list[str] = []
    hub_server.meanwhile = [lambda: other.append(first.publish(hub))]
    assert [first.publish(hub)] == other == [repo.main]
    assert [c.title for c in repo.log("main")][1:] == ["initial commit"]


def test_manual_changes_on_main_are_reverted(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    tagged = first.publish(hub)
    repo = repo_of(hub_server)
    repo.edit("README.md", b"---\nlicense: mit\n---\nsomething else")
    repo.edit("samples.png", None)
    repo.edit("virus.txt", b"!")
    hub_server.forget()
    assert first.publish(hub) == tagged
    assert repo.files() == first.files
    assert repo.tags == {"generation-1": tagged}
    assert "lfs_upload" not in hub_server.writes


@pytest.mark.parametrize("name", ["README.md", WEIGHTS])
def test_a_corrupted_upload_is_detected_by_reading_back(
    hub_server: HubServer, hub: Hub, tmp_path: Path, name: str
) -> None:
    first = Release(tmp_path, "first", 1)
    hub_server.damage[name] = b"tampered\0with"
    with pytest.raises(PublishFailed, match=f"read back, {name} of commit"):
        first.publish(hub)
    assert repo_of(hub_server).tags == {}, "not tagged as a generation"
    hub_server.damage.clear()
    first.publish(hub)
    assert repo_of(hub_server).files() == first.files


def test_a_changed_local_file_is_not_published(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    (first.folder / WEIGHTS).write_bytes(b"other")
    with pytest.raises(ReleaseCorrupt, match=WEIGHTS):
        first.publish(hub)
    assert hub_server.asked == []


def test_a_roll_back_is_one_commit_with_nothing_uploaded(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    first.publish(hub)
    second.publish(hub)
    hub_server.forget()
    back = Release(tmp_path, "first", 3, restores=1)
    commit = back.publish(hub)
    repo = repo_of(hub_server)
    assert repo.files() == first.files
    assert hub_server.writes.count("commit") == 1
    assert "lfs_upload" not in hub_server.writes
    assert repo.tags["generation-3"] == commit
    assert repo.head.title.endswith("(generation 1 again)")


def test_an_invalid_card_is_reported_before_anything_is_uploaded(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    first = Release(tmp_path, "first", 1)
    card = b"---\nlicense: my-own\n---\n"
    (first.folder / "README.md").write_bytes(card)
    first.manifest.files["README.md"] = hashlib.sha256(card).hexdigest()
    with pytest.raises(PublishFailed, match='"license" must be one of'):
        first.publish(hub)
    assert set(hub_server.writes) == {"create"}


@pytest.mark.parametrize("delete", [False, True])
def test_a_withdrawn_release_is_removed_from_main_and_the_tags(
    hub_server: HubServer, hub: Hub, tmp_path: Path, delete: bool
) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    for release in (first, second):
        release.publish(hub)

    def withdraw() -> None:
        what = (second.entry.release, second.manifest, [2], "a picture had to go")
        hub.withdraw(*what, delete=delete)

    withdraw()
    repo = repo_of(hub_server)
    assert list(repo.files()) == ["README.md"]
    card = repo.files()["README.md"].decode()
    assert f"Release `{second.entry.release}` of this model was withdrawn: a picture had to go" in card
    assert set(repo.tags) == {"generation-1"}
    assert (second.manifest.files[WEIGHTS] in repo.objects) is not delete
    assert first.manifest.files[WEIGHTS] in repo.objects
    hub_server.forget()
    withdraw()
    assert hub_server.writes == []
    back = Release(tmp_path, "first", 3, restores=1)
    back.publish(hub)
    assert repo.files() == first.files
    assert "lfs_upload" not in hub_server.writes
    assert first.publish(hub) == repo.tags["generation-1"]


def test_withdrawing_an_older_release_leaves_main_unchanged(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first, second = Release(tmp_path, "first", 1), Release(tmp_path, "second", 2)
    first.publish(hub)
    main = second.publish(hub)
    hub.withdraw(first.entry.release, first.manifest, [1], "a picture had to go")
    assert (repo_of(hub_server).main, set(repo_of(hub_server).tags)) == (main, {"generation-2"})


def test_withdrawing_an_unpublished_release_changes_nothing(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    first = Release(tmp_path, "first", 1)
    hub.withdraw(first.entry.release, first.manifest, [1], "a picture had to go", delete=True)
    assert hub_server.writes == []
