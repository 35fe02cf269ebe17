from __future__ import annotations

import shutil
import threading

import pytest

from tests.versions.folders import PEOPLE, SPEC, Person, write_app, write_yaml
from workbench.errors import ConflictError, IntegrityError, NotPermitted, SpecError, StoreError, UnknownSubject, UsageError
from workbench.ledger import audit
from workbench.ledger.tables import blobs, bundles, declarations
from workbench.spec.app import AppSpec
from workbench.spec.bundle import BundleSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec
from workbench.versions.reading import read_bundle
from workbench.versions.service import Versions


def _acts(ledger) -> list[tuple[str, str]]:
    with ledger.read() as connection:
        assert audit.verify(connection).is_whole
        return [(entry.act, entry.subject) for entry in audit.tail(connection, 100)]


def _register(versions, bundle_dir, **changes):
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, **changes})
    return versions.register(bundle_dir).bundle


def test_a_registered_bundle_is_read_back_as_it_is_on_disk(versions, ledger, bundle_dir):
    known = versions.register(bundle_dir)
    read = read_bundle(bundle_dir)
    assert known.bundle == read.bundle
    assert known.is_new
    assert known.registered_by == "primary"
    assert versions.get(known.bundle.bundle_id) == read.bundle
    assert versions.files(known.bundle.bundle_id) == read.files
    assert _acts(ledger) == [
        ("declare", "support/app"),
        ("declare.people", "support/people"),
        ("bundle.register", known.bundle.bundle_id),
    ]


def test_the_same_content_again_is_the_same_bundle_and_no_act(versions, ledger, app_dir, bundle_dir, tmp_path):
    first = versions.register(bundle_dir)
    acts = _acts(ledger)
    shutil.copytree(app_dir, tmp_path / "copy")
    again = versions.register(str(tmp_path / "copy" / "bundles" / "v1"))
    assert (again.bundle, again.registered_at, again.is_new) == (first.bundle, first.registered_at, False)
    assert _acts(ledger) == acts


def test_registrations_at_once_store_one_bundle_and_one_entry(versions, ledger, bundle_dir):
    start, got = threading.Barrier(4), []

    def register() -> None:
        start.wait()
        got.append(versions.register(bundle_dir))

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(known.is_new for known in got) == [False, False, False, True]
    assert len(_acts(ledger)) == 3


def test_bundles_are_listed_in_the_order_of_their_registration(ledger, gatekeeper, clock, bundle_dir, tmp_path):
    still = clock()
    versions = Versions(ledger, authority=gatekeeper, author=Person(), clock=lambda: still)
    names = ["v3", "v1", "v2"]
    made = [_register(versions, bundle_dir, name=name) for name in names]
    other = versions.register_external(
        BundleSpec.model_validate({"app": "billing", "name": "b", "model": {"provider": "p", "name": "m"}}), {}
    )
    assert [known.bundle.name for known in versions.list("support")] == names
    assert [known.bundle for known in versions.list()] == [*made, other.bundle]
    assert versions.latest("support") == made[-1]
    assert versions.apps() == ("billing", "support")
    with pytest.raises(UnknownSubject, match="no bundle is registered"):
        versions.latest("travel")


def test_a_bundle_is_found_by_id_digest_prefix_and_name(versions, bundle_dir):
    bundle = _register(versions, bundle_dir)
    other = _register(versions, bundle_dir, name="v2")
    hex_digits = bundle.digest.removeprefix("sha256:")
    references = [bundle.bundle_id, bundle.digest, hex_digits, hex_digits[:8], f"support@{hex_digits[:9]}", "v1"]
    assert [versions.get(reference) for reference in references] == [bundle] * len(references)
    assert versions.get("v2", app="support") == other
    for reference in (hex_digits[:7], "v3", f"other@{hex_digits[:9]}", "", "%", "support@"):
        with pytest.raises(UnknownSubject, match=r"no registered bundle"):
            versions.get(reference)
    with pytest.raises(UnknownSubject, match="of app travel"):
        versions.get(bundle.bundle_id, app="travel")


def test_a_name_that_two_bundles_share_is_ambiguous(versions, bundle_dir):
    first = _register(versions, bundle_dir)
    second = _register(versions, bundle_dir, controls={"retries": 7})
    with pytest.raises(UsageError, match=f"it may mean {first.bundle_id} .v1., {second.bundle_id}"):
        versions.get("v1")


def test_a_registration_names_the_bundles_that_had_the_name_before(versions, bundle_dir):
    first = versions.register(bundle_dir)
    assert first.namesakes == ()
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, "controls": {"retries": 7}})
    second = versions.register(bundle_dir)
    assert second.namesakes == (first.bundle.bundle_id,)
    assert versions.register(bundle_dir).namesakes == (first.bundle.bundle_id,), "said as long as it is so"
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, "name": "v2"})
    assert versions.register(bundle_dir).namesakes == ()
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, "controls": {"retries": 8}})
    assert versions.register(bundle_dir).namesakes == (first.bundle.bundle_id, second.bundle.bundle_id)


def test_two_contents_with_the_same_short_id_are_refused(versions, ledger, bundle_dir):
    known = versions.register(bundle_dir).bundle
    with ledger.write() as act:
        act.connection.execute(bundles.update().values(digest=known.digest[:-1] + ("0" if known.digest[-1] != "0" else "1")))
    with pytest.raises(IntegrityError, match="one content for one id"):
        versions.register(bundle_dir)


def test_stored_files_are_checked_against_their_digests(versions, ledger, bundle_dir):
    bundle = versions.register(bundle_dir).bundle
    path = "prompts/system.md"
    wanted = f"sha256:{bundle.parts['prompts'].content['system']['sha256']}"
    with ledger.write() as act:
        act.connection.execute(blobs.update().where(blobs.c.digest == wanted).values(content=b"You harm customers."))
    with pytest.raises(IntegrityError, match=rf"{bundle.bundle_id}: {path}: its stored content no longer matches"):
        versions.files(bundle.bundle_id)
    with ledger.write() as act:
        act.connection.execute(blobs.delete().where(blobs.c.digest == wanted))
    with pytest.raises(IntegrityError, match="its stored content is gone"):
        versions.files(bundle.bundle_id)


def test_a_difference_needs_no_folder(versions, app_dir, bundle_dir):
    old = _register(versions, bundle_dir)
    (bundle_dir / "prompts/system.md").write_text("Be exact.\n")
    new = _register(versions, bundle_dir, name="v2")
    shutil.rmtree(app_dir)
    found = versions.diff(old.bundle_id, "v2")
    assert (found.old, found.new, found.labels) == (old, new, ("name: v1 → v2",))
    assert "+Be exact." in found.parts[0].files[0].diff


def test_who_may_not_register_leaves_nothing(versions, ledger, gatekeeper, bundle_dir):
    gatekeeper.denied = {"declare.people"}
    with pytest.raises(NotPermitted):
        versions.register(bundle_dir)
    gatekeeper.denied = {"bundle.register"}
    with pytest.raises(NotPermitted):
        versions.register(bundle_dir)
    assert (versions.list(), versions.apps(), _acts(ledger)) == ((), (), [])


def test_the_actor_of_the_act_stands_in_the_audit(versions, ledger, bundle_dir):
    versions.register(bundle_dir, actor=Person(person="secondary", via="slack", assurance="verified"))
    with ledger.read() as connection:
        entry = audit.tail(connection, 1)[0]
    assert (entry.actor, entry.via, entry.assurance) == ("secondary", "slack", "verified")
    assert versions.list()[0].registered_by == "secondary"


def test_a_bundle_of_another_app_than_its_folder_is_refused(versions, app_dir, bundle_dir):
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, "app": "billing"})
    with pytest.raises(SpecError, match="billing"):
        versions.register(bundle_dir)
    assert versions.list() == ()


def test_a_bundle_without_an_app_folder_declares_nothing(versions, tmp_path):
    folder = tmp_path / "alone"
    write_yaml(folder / "bundle.yaml", {"app": "billing", "name": "b", "model": {"provider": "p", "name": "m", "version": "1"}})
    assert versions.register(folder).is_new
    assert versions.declaration("billing", "app") is None


# --- declarations ------------------------------------------------------------------------------------------------------


def test_declared_specs_are_read_back_as_models(versions, app_dir):
    first = versions.declare(app_dir)
    assert [(each.kind, each.is_new) for each in first] == [("app", True), ("people", True)]
    app, people = versions.declaration("support", "app"), versions.declaration("support", "people")
    assert isinstance(app, AppSpec)
    assert isinstance(people, PeopleSpec)
    assert (app, people) == (first[0].spec, first[1].spec)
    assert versions.declaration("support", "gates") is None
    assert versions.declaration_digest("support", "gates") is None
    assert versions.declaration_digest("support", "app") == first[0].digest


def test_only_what_changed_is_declared_again(versions, ledger, gatekeeper, app_dir):
    versions.declare(app_dir)
    gatekeeper.asked.clear()
    assert [each.is_new for each in versions.declare(app_dir)] == [False, False]
    assert gatekeeper.asked == []
    write_yaml(app_dir / "people.yaml", {"people": {**PEOPLE["people"], "secondary": {"os": ["secondary"]}}})
    assert [each.kind for each in versions.declare(app_dir) if each.is_new] == ["people"]
    assert gatekeeper.asked == [("declare.people", "support")]
    assert len(_acts(ledger)) == 3


def test_a_file_taken_away_is_a_declaration_too_and_can_come_back(versions, app_dir):
    rota = {"zone": "Europe/Berlin", "layers": [{"name": "first", "people": ["primary"], "first_handoff": "2026-10-05T09:00"}]}
    write_yaml(app_dir / "rota.yaml", rota)
    versions.declare(app_dir)
    declared = versions.declaration("support", "rota")
    assert isinstance(declared, RotaSpec)
    (app_dir / "rota.yaml").unlink()
    assert [(each.kind, each.spec) for each in versions.declare(app_dir) if each.is_new] == [("rota", None)]
    assert versions.declaration("support", "rota") is None
    assert versions.declaration_digest("support", "rota") is None
    write_yaml(app_dir / "rota.yaml", rota)
    versions.declare(app_dir)
    assert versions.declaration("support", "rota") == declared


def test_a_fault_in_one_file_stores_nothing(versions, ledger, app_dir):
    write_yaml(app_dir / "people.yaml", {"peple": {}})
    with pytest.raises(SpecError, match="peple"):
        versions.declare(app_dir)
    assert (versions.apps(), _acts(ledger)) == ((), [])


def test_a_stored_declaration_that_cannot_be_read_says_what_to_do(versions, ledger, app_dir):
    versions.declare(app_dir)
    with ledger.write() as act:
        act.connection.execute(declarations.update().where(declarations.c.kind == "app").values(content={"app": "support"}))
    with pytest.raises(StoreError, match=r"declaration support/app: this version cannot read .*title.*declare the app folder again"):
        versions.declaration("support", "app")


def test_there_are_only_five_kinds(versions):
    with pytest.raises(UnknownSubject, match="app, people, gates, plan, rota"):
        versions.declaration("support", "colour")


def test_two_apps_have_their_own_people(versions, tmp_path):
    for name in ("support", "billing"):
        folder = write_app(tmp_path / name, spec={**SPEC, "app": name})
        write_yaml(folder / "app.yaml", {"app": name, "title": name, "risk_tier": "low", "owner": name})
        write_yaml(folder / "people.yaml", {"people": {name: {"os": [name], "roles": {name: ["admin"]}}}})
        versions.register(folder / "bundles" / "v1")
    assert list(versions.declaration("billing", "people").people) == ["billing"]
    assert list(versions.declaration("support", "people").people) == ["support"]


def _meanwhile(versions, monkeypatch, act) -> None:
    """Lets `act` happen after the authority answered the first time and before anything is written."""
    require, done = versions._require, []

    def then(specs, author):
        seen = require(specs, author)
        if not done:
            done.append(True)
            act()
        return seen

    monkeypatch.setattr(versions, "_require", then)


def _newer(app_dir, to):
    shutil.copytree(app_dir, to)
    write_yaml(to / "people.yaml", {"people": {**PEOPLE["people"], "secondary": {"os": ["secondary"]}}})
    return to


def test_a_registration_from_an_old_folder_never_puts_old_people_back(versions, ledger, bundle_dir, tmp_path, monkeypatch):
    versions.register(bundle_dir)
    newer = _newer(bundle_dir.parents[1], tmp_path / "newer")
    (bundle_dir / "prompts/system.md").write_text("Be exact.\n")
    _meanwhile(versions, monkeypatch, lambda: versions.declare(newer))
    with pytest.raises(ConflictError, match=r"support/people\.yaml: somebody declared another one in the meantime .*nothing was stored"):
        versions.register(bundle_dir)
    assert set(versions.declaration("support", "people").people) == {"primary", "secondary"}
    assert len(versions.list()) == 1
    assert _acts(ledger)[-1] == ("declare.people", "support/people")


def test_a_declaration_is_stored_only_on_what_it_was_allowed_on(versions, ledger, app_dir, tmp_path, monkeypatch):
    versions.declare(app_dir)
    newer = _newer(app_dir, tmp_path / "newer")
    write_yaml(app_dir / "people.yaml", {"people": {**PEOPLE["people"], "third": {"os": ["third"]}}})
    _meanwhile(versions, monkeypatch, lambda: versions.declare(newer))
    before = len(_acts(ledger))
    with pytest.raises(ConflictError):
        versions.declare(app_dir)
    assert len(_acts(ledger)) == before + 1
    assert [each.is_new for each in versions.declare(app_dir)] == [False, True], "decided anew, on what stands there now"


def test_two_who_declare_the_same_at_once_do_not_disturb_each_other(versions, ledger, app_dir, tmp_path, monkeypatch):
    shutil.copytree(app_dir, tmp_path / "copy")
    _meanwhile(versions, monkeypatch, lambda: versions.declare(tmp_path / "copy"))
    assert [each.is_new for each in versions.declare(app_dir)] == [False, False]
    assert len(_acts(ledger)) == 2
