//! Claims and leases: what many workers at once may rely on.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    id::{CommandId, SandboxId},
    sandbox::{Phase, Sandbox},
};

use crate::fixtures::{HOST, Tenant, at, command, everyone, on_each, put, put_command};

const LEASE: Duration = Duration::from_secs(30);

async fn put_due(db: &store::Db, sandbox: &Sandbox, due: i64) {
    let tx = db.begin().await.unwrap();
    store::sandboxes(everyone()).insert(&tx, sandbox, at(due)).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn no_two_workers_ever_get_the_same_sandbox() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        for _ in 0..60 {
            put_due(db, &acme.sandbox(), 10).await;
        }
        let worker = async || {
            let mut claimed = Vec::new();
            loop {
                let sandboxes = store::sandboxes(everyone());
                let due = sandboxes.claim_due(db.write(), HOST, at(10), LEASE, 4).await.unwrap();
                if due.is_empty() {
                    return claimed;
                }
                claimed.extend(due.into_iter().map(|sandbox| sandbox.id));
            }
        };
        let mut times = BTreeMap::<SandboxId, usize>::new();
        let (a, b, c) = tokio::join!(worker(), worker(), worker());
        for id in a.into_iter().chain(b).chain(c) {
            *times.entry(id).or_default() += 1;
        }
        assert_eq!(times.len(), 60);
        assert!(times.values().all(|n| *n == 1), "{times:?}");
    })
    .await;
}

#[tokio::test]
async fn a_claim_lasts_as_long_as_its_lease_and_leaves_the_generation() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let (early, late) = (acme.sandbox(), acme.sandbox());
        put_due(db, &late, 12).await;
        put_due(db, &early, 11).await;
        put_due(db, &Sandbox { host: "host-2".to_owned(), ..acme.sandbox() }, 1).await;
        put(db, &acme.sandbox()).await;
        let sandboxes = store::sandboxes(everyone());
        let claim = async |now, limit| {
            let due = sandboxes.claim_due(db.write(), HOST, at(now), LEASE, limit).await.unwrap();
            due.into_iter().map(|sandbox| sandbox.id).collect::<Vec<_>>()
        };
        assert_eq!(claim(10, 5).await, [], "none is due yet");
        assert_eq!(sandboxes.next_due(db.read(), HOST).await.unwrap(), Some(at(11)));
        assert_eq!(claim(12, 1).await, [early.id], "the most overdue first");
        assert_eq!(claim(12, 5).await, [late.id]);
        assert_eq!(claim(41, 5).await, [], "both are leased");
        assert_eq!(claim(42, 5).await.len(), 2, "the leases ran out");
        let tx = db.begin().await.unwrap();
        let ready = Sandbox { phase: Phase::Ready, ..early };
        assert_eq!(sandboxes.update(&tx, &ready, None).await.unwrap().generation, 1);
        tx.commit().await.unwrap();
        assert_eq!(claim(999, 5).await, [late.id], "one is done");
    })
    .await;
}

#[tokio::test]
async fn a_plan_gives_way_to_whoever_changed_the_row() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let sandboxes = store::sandboxes(everyone());
        sandboxes.reschedule(db.write(), &sandbox, Some(at(20))).await.unwrap();
        assert_eq!(sandboxes.next_due(db.read(), HOST).await.unwrap(), Some(at(20)));
        let tx = db.begin().await.unwrap();
        let killed = Sandbox { phase: Phase::Expiring, ..sandbox.clone() };
        sandboxes.update(&tx, &killed, at(5)).await.unwrap();
        tx.commit().await.unwrap();
        sandboxes.reschedule(db.write(), &sandbox, Some(at(3600))).await.unwrap();
        assert_eq!(sandboxes.next_due(db.read(), HOST).await.unwrap(), Some(at(5)));
    })
    .await;
}

#[tokio::test]
async fn hosts_know_their_sandboxes() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let mut ids = BTreeMap::new();
        for phase in Phase::ALL {
            let removed_at = (phase == Phase::Destroyed).then(|| at(9));
            let sandbox = Sandbox { phase, removed_at, ..acme.sandbox() };
            put(db, &sandbox).await;
            ids.insert(phase.as_str(), sandbox.id);
        }
        put(db, &Sandbox { host: "host-2".to_owned(), ..acme.sandbox() }).await;
        let sandboxes = store::sandboxes(everyone());
        let phases = |found: Vec<Sandbox>| {
            let mut phases: Vec<_> = found.iter().map(|sandbox| sandbox.phase.as_str()).collect();
            phases.sort_unstable();
            phases
        };
        let ready = sandboxes.ready_on(db.read(), HOST).await.unwrap();
        assert_eq!(phases(ready), ["ready"]);
        let live = sandboxes.live_on(db.read(), HOST).await.unwrap();
        assert_eq!(phases(live), ["creating", "ready", "starting"]);
        let there = sandboxes.on_host(db.read(), HOST).await.unwrap();
        assert_eq!(phases(there), ["creating", "expiring", "failed", "ready", "starting"]);
        // Only a failed one is removed without a change of phase.
        for id in ids.values() {
            sandboxes.mark_removed(db.write(), *id, at(10)).await.unwrap();
            sandboxes.mark_removed(db.write(), *id, at(11)).await.unwrap();
        }
        let there = sandboxes.on_host(db.read(), HOST).await.unwrap();
        assert_eq!(phases(there), ["creating", "expiring", "ready", "starting"]);
        let failed = sandboxes.get(db.read(), ids["failed"]).await.unwrap();
        assert_eq!((failed.removed_at, failed.generation), (Some(at(10)), 1));
    })
    .await;
}

#[tokio::test]
async fn many_sandboxes_are_seen_alive_in_one_statement() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(acme.stored(db).await.id);
        }
        let over = Sandbox { phase: Phase::Expiring, seen_alive_at: None, ..acme.sandbox() };
        put(db, &over).await;
        // Ids that are no rows of ours do no harm, however many they are.
        let strangers = (0..10_500).map(|_| SandboxId::generate(at(0)));
        let seen: Vec<_> = ids.iter().copied().chain([over.id]).chain(strangers).collect();
        let sandboxes = store::sandboxes(everyone());
        sandboxes.mark_seen_alive(db.write(), HOST, &seen, at(77)).await.unwrap();
        sandboxes.mark_seen_alive(db.write(), HOST, &[], at(88)).await.unwrap();
        for sandbox in sandboxes.ready_on(db.read(), HOST).await.unwrap() {
            assert_eq!(sandbox.seen_alive_at, Some(at(77)));
        }
        let over = sandboxes.get(db.read(), over.id).await.unwrap();
        assert_eq!(over.seen_alive_at, None, "what has ended is not alive");
    })
    .await;
}

#[tokio::test]
async fn a_command_whose_lease_ran_out_is_taken_up_once() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let elsewhere = Sandbox { host: "host-2".to_owned(), ..acme.sandbox() };
        put(db, &elsewhere).await;
        let (lost, renewed, foreign) = (command(&sandbox), command(&sandbox), command(&elsewhere));
        for command in [&lost, &renewed, &foreign] {
            put_command(db, command).await; // leased until 30 s
        }
        let commands = store::commands(everyone());
        let claim = async |now| {
            let host = HOST;
            let found = commands.claim_orphans(db.write(), host, at(now), LEASE, 10).await.unwrap();
            found.into_iter().map(|command| command.id).collect::<Vec<CommandId>>()
        };
        assert_eq!(claim(30).await, [], "the leases hold");
        commands.renew(db.write(), &[renewed.id], at(50)).await.unwrap();
        commands.renew(db.write(), &[renewed.id], at(40)).await.unwrap();
        commands.renew(db.write(), &[], at(40)).await.unwrap();
        let (one, two) = tokio::join!(claim(31), claim(31));
        assert_eq!([one, two].concat(), [lost.id]);
        assert_eq!(claim(51).await, [renewed.id], "renewed until 50 s, never less");
        let tx = db.begin().await.unwrap();
        commands.finish(&tx, lost.id, &crate::fixtures::exited("")).await.unwrap();
        tx.commit().await.unwrap();
        commands.renew(db.write(), &[lost.id], at(60)).await.unwrap();
        assert_eq!(claim(999).await, [renewed.id], "what is over has no lease");
    })
    .await;
}
