//! Sandboxes: rows, compare-and-set, lists.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use domain::{
    command,
    id::{CommandId, SandboxId},
    metadata::Metadata,
    sandbox::{Activity, EndReason, Phase, Sandbox, Status},
};
use store::{Db, Error, PageRequest, sandboxes::SandboxFilter};

use crate::fixtures::{Tenant, at, command, everyone, micros, on_each, put, put_command};

fn all(now: DateTime<Utc>) -> SandboxFilter {
    SandboxFilter {
        project: None,
        status: None,
        include_historical: true,
        host: None,
        template: None,
        metadata: vec![],
        now,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Metadata {
    let map: BTreeMap<_, _> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Metadata::parse(map).unwrap()
}

#[tokio::test]
async fn a_sandbox_is_read_as_it_was_written() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = Sandbox {
            phase: Phase::Destroyed,
            generation: 7,
            metadata: labels(&[("agent.id", "codex/1 ü"), ("empty", "")]),
            ended_at: Some(at(9)),
            end_reason: Some(EndReason::UserKilled),
            removed_at: Some(at(10)),
            ..acme.sandbox()
        };
        put(db, &sandbox).await;
        let read = store::sandboxes(acme.reach()).get(db.read(), sandbox.id).await.unwrap();
        assert_eq!(read, sandbox);
    })
    .await;
}

#[tokio::test]
async fn instants_are_cut_to_microseconds() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let odd = DateTime::from_timestamp(at(5).timestamp(), 123_456_789).unwrap();
        let cut = DateTime::from_timestamp(at(5).timestamp(), 123_456_000).unwrap();
        let sandbox = Sandbox { created_at: odd, ready_at: Some(odd), ..acme.sandbox() };
        put(db, &sandbox).await;
        let sandboxes = store::sandboxes(acme.reach());
        let read = sandboxes.get(db.read(), sandbox.id).await.unwrap();
        assert_eq!((read.created_at, read.ready_at), (cut, Some(cut)));
        let tx = db.begin().await.unwrap();
        let ended = Sandbox { ended_at: Some(odd), phase: Phase::Expiring, ..sandbox };
        let updated = sandboxes.update(&tx, &ended, odd).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(updated, sandboxes.get(db.read(), updated.id).await.unwrap());
        assert_eq!(sandboxes.next_due(db.read(), &updated.host).await.unwrap(), Some(cut));
    })
    .await;
}

#[tokio::test]
async fn only_one_of_two_changes_of_the_same_generation_wins() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let sandboxes = store::sandboxes(acme.reach());
        let change = |phase| Sandbox { phase, ..sandbox.clone() };
        let tx = db.begin().await.unwrap();
        let won = sandboxes.update(&tx, &change(Phase::Expiring), None).await.unwrap();
        assert_eq!((won.generation, won.phase), (1, Phase::Expiring));
        let lost = sandboxes.update(&tx, &change(Phase::Failed), None).await;
        assert!(matches!(lost, Err(Error::Stale)));
        tx.commit().await.unwrap();
        assert_eq!(sandboxes.get(db.read(), sandbox.id).await.unwrap(), won);
    })
    .await;
}

#[tokio::test]
async fn a_change_does_not_undo_what_was_noted_meanwhile() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let sandboxes = store::sandboxes(everyone());
        sandboxes.touch_activity(db.write(), sandbox.id, at(50)).await.unwrap();
        sandboxes.touch_activity(db.write(), sandbox.id, at(40)).await.unwrap();
        let ids = [sandbox.id];
        sandboxes.mark_seen_alive(db.write(), &sandbox.host, &ids, at(60)).await.unwrap();
        sandboxes.mark_seen_alive(db.write(), &sandbox.host, &ids, at(55)).await.unwrap();
        sandboxes.mark_seen_alive(db.write(), "another host", &ids, at(99)).await.unwrap();
        let tx = db.begin().await.unwrap();
        let updated = sandboxes.update(&tx, &sandbox, None).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((updated.last_activity_at, updated.seen_alive_at), (at(50), Some(at(60))));
        let tx = db.begin().await.unwrap();
        let later = Sandbox { last_activity_at: at(70), seen_alive_at: Some(at(71)), ..updated };
        let later = sandboxes.update(&tx, &later, None).await.unwrap();
        let never = Sandbox { seen_alive_at: None, ..later };
        let kept = sandboxes.update(&tx, &never, None).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((kept.last_activity_at, kept.seen_alive_at), (at(70), Some(at(71))));
    })
    .await;
}

#[tokio::test]
async fn activity_is_what_the_commands_say() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let sandboxes = store::sandboxes(everyone());
        let activity = async || sandboxes.get(db.read(), sandbox.id).await.unwrap().activity;
        assert_eq!(activity().await, Activity::Unused);
        let mut over = command(&sandbox);
        over.status = command::Status::Exited;
        put_command(db, &over).await;
        assert_eq!(activity().await, Activity::Idle);
        put_command(db, &command(&sandbox)).await;
        assert_eq!(activity().await, Activity::Running);
    })
    .await;
}

/// Rows of every phase, around every instant at which a status changes, with every kind of command.
async fn every_kind(db: &Db, acme: &Tenant) -> Vec<SandboxId> {
    let mut ids = Vec::new();
    for phase in Phase::ALL {
        for expires_at in [at(99), at(100) - micros(1), at(100), at(100) + micros(1), at(101)] {
            for statuses in [
                &[][..],
                &[command::Status::Exited],
                &[command::Status::Queued],
                &[command::Status::Running, command::Status::Killed],
            ] {
                let id = SandboxId::generate(at(0));
                put(db, &Sandbox { id, phase, expires_at, ..acme.sandbox() }).await;
                let sandbox = Sandbox { id, ..acme.sandbox() };
                for status in statuses {
                    let id = CommandId::generate(at(0));
                    let command = command(&sandbox);
                    put_command(db, &command::Command { id, status: *status, ..command }).await;
                }
                ids.push(id);
            }
        }
    }
    ids
}

#[tokio::test]
async fn the_status_filter_agrees_with_the_status_shown() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let ids = every_kind(db, &acme).await;
        let sandboxes = store::sandboxes(acme.reach());
        // The last is judged as if at 100 s: what is below a microsecond does not count.
        let odd = at(100) + chrono::TimeDelta::nanoseconds(999);
        for now in [at(100), odd] {
            let page = PageRequest { limit: 500, after: None };
            let every = sandboxes.list(db.read(), &all(now), page).await.unwrap().items;
            assert_eq!(every.len(), ids.len());
            let expect = async |filter: SandboxFilter, shown: &dyn Fn(Status) -> bool| {
                let page = PageRequest { limit: 500, after: None };
                let listed = sandboxes.list(db.read(), &filter, page).await.unwrap().items;
                let listed: BTreeSet<_> = listed.iter().map(|sandbox| sandbox.id).collect();
                let wanted = every.iter().filter(|sandbox| shown(sandbox.status(filter.now)));
                let wanted: BTreeSet<_> = wanted.map(|sandbox| sandbox.id).collect();
                assert_eq!(listed, wanted, "{filter:?}");
                assert!(!wanted.is_empty(), "{filter:?} is not tested");
            };
            for status in Status::ALL {
                for include_historical in [false, true] {
                    let filter =
                        SandboxFilter { status: Some(status), include_historical, ..all(now) };
                    expect(filter, &|shown| shown == status).await;
                }
            }
            let current = SandboxFilter { include_historical: false, ..all(now) };
            expect(current, &|shown| !matches!(shown, Status::Destroyed | Status::Failed)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn pages_have_no_holes_and_no_repeats_when_all_instants_are_equal() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let mut wanted = Vec::new();
        for _ in 0..23 {
            wanted.push(acme.stored(db).await.id);
        }
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        let sandboxes = store::sandboxes(acme.reach());
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 5, after };
            let page = sandboxes.list(db.read(), &all(at(0)), page).await.unwrap();
            assert!(page.items.len() == 5 || !page.has_more);
            seen.extend(page.items.iter().map(|sandbox| sandbox.id));
            if !page.has_more {
                break;
            }
            after = seen.last().map(|id| id.uuid());
        }
        assert_eq!(seen, wanted);
        // The last page may be full.
        let page = PageRequest { limit: 23, after: None };
        assert!(!sandboxes.list(db.read(), &all(at(0)), page).await.unwrap().has_more);
    })
    .await;
}

#[tokio::test]
async fn filters_narrow_the_list() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let both = Sandbox { metadata: labels(&[("a.b", "1"), ("c", "2")]), ..acme.sandbox() };
        let one = Sandbox {
            metadata: labels(&[("a.b", "1"), ("c", "x")]),
            project_id: acme.other.id,
            ..acme.sandbox()
        };
        put(db, &both).await;
        put(db, &one).await;
        acme.stored(db).await;
        let check = async |filter: SandboxFilter, wanted: &[&Sandbox], why: &str| {
            let page = PageRequest { limit: 10, after: None };
            let sandboxes = store::sandboxes(acme.reach());
            let listed = sandboxes.list(db.read(), &filter, page).await.unwrap().items;
            let listed: BTreeSet<_> = listed.iter().map(|sandbox| sandbox.id).collect();
            assert_eq!(listed, wanted.iter().map(|sandbox| sandbox.id).collect(), "{why}");
        };
        let with = |pairs: &[(&str, &str)]| SandboxFilter {
            metadata: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..all(at(5))
        };
        check(with(&[("a.b", "1")]), &[&both, &one], "one label").await;
        check(with(&[("a.b", "1"), ("c", "2")]), &[&both], "all must match").await;
        check(with(&[("a.b", "1"), ("a.b", "2")]), &[], "a label has one value").await;
        check(with(&[("a.b", "1%")]), &[], "no patterns").await;
        check(with(&[("A.B", "1")]), &[], "case matters").await;
        check(with(&[("a.b", "1\0")]), &[], "no label holds NUL").await;
        let other = SandboxFilter { project: Some(acme.other.id), ..with(&[("a.b", "1")]) };
        check(other, &[&one], "a project, too").await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_noted_for_operators() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let sandboxes = store::sandboxes(acme.reach());
        assert_eq!(sandboxes.failure(db.read(), sandbox.id).await.unwrap(), None);
        sandboxes.note_failure(db.write(), sandbox.id, "no\0 space").await.unwrap();
        let noted = sandboxes.failure(db.read(), sandbox.id).await.unwrap();
        assert_eq!(noted.as_deref(), Some("no\u{fffd} space"));
    })
    .await;
}
