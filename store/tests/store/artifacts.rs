//! Artifacts: within reach or missing, there or gone; and what is being written is either closed by its
//! writer or swept, never both.

use std::time::Duration;

use domain::{
    artifact::{Artifact, Name},
    id::ArtifactId,
    sandbox::Sandbox,
};
use store::{
    Db, Error, PageRequest,
    artifacts::{Lease, claim_writes, take_over_writes},
};

use crate::fixtures::{Tenant, at, everyone, on_each};

const PAGE: PageRequest = PageRequest { limit: 10, after: None };
const AGAIN: Duration = Duration::from_secs(600);

fn artifact(sandbox: &Sandbox) -> Artifact {
    Artifact {
        id: ArtifactId::generate(at(2)),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        name: Name::of_path("report.xml"),
        content_type: Some("text/xml".to_owned()),
        source_path: "/workspace/report.xml".to_owned(),
        size_bytes: 7,
        sha256: [7; 32],
        created_at: at(3),
        retention_expires_at: at(1000),
        deleted_at: None,
    }
}

async fn begin(db: &Db, artifact: &Artifact, until: i64) {
    let lease = Lease { host: "here", until: at(until) };
    let tx = db.begin().await.unwrap();
    let all = store::artifacts(everyone());
    all.begin_write(&tx, artifact.id, artifact.org_id, None, lease).await.unwrap();
    tx.commit().await.unwrap();
}

async fn close(db: &Db, artifact: &Artifact) -> store::Result<()> {
    let tx = db.begin().await.unwrap();
    let closed = store::artifacts(everyone()).insert(&tx, artifact, None).await;
    match closed {
        Ok(()) => tx.commit().await,
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn artifacts_of_others_are_invisible() {
    on_each(async |db| {
        let (acme, stranger) = (Tenant::new(db, "acme").await, Tenant::new(db, "other").await);
        let sandbox = acme.stored(db).await;
        let made = artifact(&sandbox);
        begin(db, &made, 60).await;
        close(db, &made).await.unwrap();
        for (reach, who) in [
            (stranger.reach(), "another organization"),
            (acme.only(&acme.other), "another project"),
            (store::Scope::org(acme.org.id, Some(Vec::new())), "no project at all"),
        ] {
            let theirs = store::artifacts(reach);
            let got = theirs.get(db.read(), made.id, at(4)).await;
            assert!(matches!(got, Err(Error::Missing("artifact"))), "{who}");
            let list = theirs.list(db.read(), sandbox.id, PAGE, at(4)).await.unwrap();
            assert_eq!(list.items, [], "{who}");
            let tx = db.begin().await.unwrap();
            let deleted = theirs.delete(&tx, made.id, at(4)).await;
            assert!(matches!(deleted, Err(Error::Missing("artifact"))), "{who}");
            let inserted = theirs.insert(&tx, &artifact(&sandbox), None).await;
            assert!(matches!(inserted, Err(Error::Missing(_))), "{who}");
            let due = theirs.claim_removals(&tx, at(2000), AGAIN, 10).await.unwrap();
            assert_eq!(due, [], "{who}");
        }
        let ours = store::artifacts(acme.only(&acme.project));
        assert_eq!(ours.get(db.read(), made.id, at(4)).await.unwrap(), made);
        assert_eq!(ours.list(db.read(), sandbox.id, PAGE, at(4)).await.unwrap().items, [made]);
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_or_old_is_missing_and_to_be_removed_once() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let (deleted, old) = (artifact(&sandbox), artifact(&sandbox));
        for made in [&deleted, &old] {
            begin(db, made, 60).await;
            close(db, made).await.unwrap();
        }
        let all = store::artifacts(everyone());
        let tx = db.begin().await.unwrap();
        let tombstone = all.delete(&tx, deleted.id, at(10)).await.unwrap();
        assert_eq!(tombstone, Artifact { deleted_at: Some(at(10)), ..deleted.clone() });
        tx.commit().await.unwrap();
        assert!(all.get(db.read(), deleted.id, at(10)).await.is_err());
        assert_eq!(all.get(db.read(), old.id, at(999)).await.unwrap(), old);
        assert!(all.get(db.read(), old.id, at(1000)).await.is_err());
        let due = async |now| {
            let due = all.claim_removals(db.write(), at(now), AGAIN, 10).await.unwrap();
            due.into_iter().map(|artifact| artifact.id).collect::<Vec<_>>()
        };
        assert_eq!(due(10).await, [deleted.id]);
        assert_eq!(due(11).await, [], "somebody is at it");
        assert_eq!(due(610).await, [deleted.id], "and may have died");
        all.note_removal(db.write(), deleted.id).await.unwrap();
        assert_eq!(due(1000).await, [old.id]);
        assert_eq!(due(1500).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_write_is_closed_or_swept_and_never_both() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let (quick, lost) = (artifact(&sandbox), artifact(&sandbox));
        begin(db, &quick, 60).await;
        begin(db, &lost, 60).await;
        let all = store::artifacts(everyone());
        all.note_upload(db.write(), lost.id, "upload-1").await.unwrap();
        all.renew_write(db.write(), lost.id, at(70)).await.unwrap();
        let claim = async |now| claim_writes(db.write(), at(now), AGAIN, 10).await.unwrap();
        close(db, &quick).await.unwrap();
        assert!(matches!(close(db, &quick).await, Err(Error::Stale)), "it is closed");
        assert_eq!(claim(69).await, []);
        let [swept] = &claim(70).await[..] else { panic!("one is lost") };
        assert_eq!((swept.id, swept.is_last), (lost.id, false));
        assert_eq!(swept.upload_id.as_deref(), Some("upload-1"));
        // Its writer was only slow, and finds that it is nobody's any more.
        assert!(matches!(close(db, &lost).await, Err(Error::Stale)));
        assert!(matches!(all.renew_write(db.write(), lost.id, at(99)).await, Err(Error::Stale)));
        let noted = all.note_upload(db.write(), lost.id, "upload-2").await;
        assert!(matches!(noted, Err(Error::Stale)));
        assert_eq!(all.give_up_write(db.write(), lost.id, at(99)).await.unwrap(), None);
        assert_eq!(claim(71).await, []);
        let [again] = &claim(670).await[..] else { panic!("it is swept twice") };
        assert!(again.is_last);
        let tx = db.begin().await.unwrap();
        all.forget_write(&tx, lost.id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(claim(9_999).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_new_server_of_a_host_takes_over_what_the_last_one_wrote() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let made = artifact(&sandbox);
        begin(db, &made, 60).await;
        assert_eq!(take_over_writes(db.write(), "elsewhere", at(5)).await.unwrap(), 0);
        assert_eq!(claim_writes(db.write(), at(5), AGAIN, 10).await.unwrap(), []);
        assert_eq!(take_over_writes(db.write(), "here", at(5)).await.unwrap(), 1);
        assert_eq!(claim_writes(db.write(), at(5), AGAIN, 10).await.unwrap().len(), 1);
        assert_eq!(take_over_writes(db.write(), "here", at(6)).await.unwrap(), 0, "it is taken");
    })
    .await;
}
