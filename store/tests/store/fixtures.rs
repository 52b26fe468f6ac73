//! Tenants, sandboxes and commands to test with. Time is written down, never read.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    collect::CollectStatus,
    command::{Command, Inline, OutputStream, Status},
    id::{ApiKeyId, CommandId, OrganizationId, ProjectId, SandboxId, UserId},
    key::ApiKey,
    limits::Plan,
    metadata::Metadata,
    organization::{MemberRole, Organization, Project, Standing, User},
    sandbox::{Activity, Phase, Sandbox, TemplateVersion},
    scope::ScopeSet,
};
use store::{
    Db, Everyone, Reach, Scope,
    commands::{End, LogChunk},
};

pub const HOST: &str = "host-1";

/// Runs a test on each database; the one it was on is printed with a failure.
pub async fn on_each(test: impl AsyncFn(&Db)) {
    for database in store::testing::databases().await {
        println!("on {}", database.name);
        test(&database.db).await;
    }
}

/// Seconds after the start of the tests' time.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_924_992_000 + seconds, 0).unwrap()
}

pub fn micros(n: i64) -> TimeDelta {
    TimeDelta::microseconds(n)
}

pub fn everyone() -> Reach {
    Everyone::for_worker("test")
}

/// An organization with a default and another project, a user and a key.
pub struct Tenant {
    pub org: Organization,
    pub user: User,
    pub project: Project,
    pub other: Project,
    pub key: ApiKey,
}

impl Tenant {
    pub async fn new(db: &Db, name: &str) -> Self {
        let org_id = OrganizationId::generate(at(0));
        let plan = Plan::Builder;
        let created_at = at(0);
        let org = Organization {
            id: org_id,
            name: name.to_owned(),
            plan,
            next_plan: None,
            limit_overrides: [("max_concurrent_sandboxes".to_owned(), 7)].into(),
            standing: Standing::Active,
            cleanup_at: None,
            created_at,
        };
        let user_id = UserId::generate(at(0));
        let email = format!("dev@{name}.test");
        let (role, removed_at) = (MemberRole::Owner, None);
        let user = User { id: user_id, org_id, email, role, created_at, removed_at };
        let project = |name: &str, is_default| {
            let id = ProjectId::generate(at(0));
            Project { id, org_id, name: name.to_owned(), is_default, created_at }
        };
        let tenant = Self {
            project: project("default", true),
            other: project("other", false),
            key: key(&user, &format!("{name:0<10}")),
            org,
            user,
        };
        let tx = db.begin().await.unwrap();
        store::organizations::insert(&tx, &tenant.org).await.unwrap();
        store::users::insert(&tx, &tenant.user).await.unwrap();
        for project in [&tenant.project, &tenant.other] {
            store::projects(tenant.reach()).insert(&tx, project).await.unwrap();
        }
        store::api_keys(tenant.reach()).insert(&tx, &tenant.key, "hash").await.unwrap();
        tx.commit().await.unwrap();
        tenant
    }

    pub fn reach(&self) -> Reach {
        Scope::org(self.org.id, None)
    }

    /// The reach of a key that is restricted to one project.
    pub fn only(&self, project: &Project) -> Reach {
        Scope::org(self.org.id, Some(vec![project.id]))
    }

    /// A ready sandbox of an hour that is not stored yet.
    pub fn sandbox(&self) -> Sandbox {
        Sandbox {
            id: SandboxId::generate(at(0)),
            org_id: self.org.id,
            project_id: self.project.id,
            created_by: self.key.id,
            template: base(),
            pricing_version: "2026-07".to_owned(),
            phase: Phase::Ready,
            generation: 0,
            host: HOST.to_owned(),
            ttl_ms: 3_600_000,
            metadata: Metadata::default(),
            created_at: at(0),
            ready_at: Some(at(1)),
            expires_at: at(3600),
            ended_at: None,
            end_reason: None,
            removed_at: None,
            last_activity_at: at(1),
            seen_alive_at: Some(at(1)),
            activity: Activity::Unused,
        }
    }

    pub async fn stored(&self, db: &Db) -> Sandbox {
        let sandbox = self.sandbox();
        put(db, &sandbox).await;
        sandbox
    }
}

pub fn key(user: &User, lookup: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId::generate(at(0)),
        org_id: user.org_id,
        name: "test".to_owned(),
        lookup: lookup.to_owned(),
        last_four: "wxyz".to_owned(),
        scopes: ScopeSet::all(),
        project_ids: None,
        created_by: user.id,
        created_at: at(0),
        revoked_at: None,
        expires_at: None,
        replaced_by: None,
        last_used_at: None,
    }
}

/// The version of `base` that the migration brings.
pub fn base() -> TemplateVersion {
    let id =
        |kind: u128| uuid::Uuid::from_u128(0x019e_807a_ec00_7000_8000_0000_0000_0001 | kind << 32);
    TemplateVersion {
        template_id: domain::id::TemplateId::from_uuid(id(1)),
        slug: "base".to_owned(),
        id: domain::id::TemplateVersionId::from_uuid(id(2)),
        version: "1.0.0".to_owned(),
    }
}

pub async fn put(db: &Db, sandbox: &Sandbox) {
    let tx = db.begin().await.unwrap();
    store::sandboxes(everyone()).insert(&tx, sandbox, None).await.unwrap();
    tx.commit().await.unwrap();
}

/// A running command that is not stored yet.
pub fn command(sandbox: &Sandbox) -> Command {
    Command {
        id: CommandId::generate(at(2)),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        command_line: "make test".to_owned(),
        cwd: "/workspace".to_owned(),
        status: Status::Running,
        background: true,
        timeout_ms: None,
        exit_code: None,
        stdout: None,
        stderr: None,
        created_at: at(2),
        started_at: Some(at(3)),
        finished_at: None,
        cancel_mode: None,
        canceled_at: None,
        termination_signal: None,
        last_seq: 0,
        first_seq: 1,
        collect_status: CollectStatus::NotRequested,
        collect_errors: Vec::new(),
    }
}

pub async fn put_command(db: &Db, command: &Command) {
    let tx = db.begin().await.unwrap();
    store::commands(everyone()).insert(&tx, command, None, at(30)).await.unwrap();
    tx.commit().await.unwrap();
}

/// A stored command that runs in a stored sandbox of a stored tenant.
pub async fn running(db: &Db) -> Command {
    let sandbox = Tenant::new(db, "acme").await.stored(db).await;
    let command = command(&sandbox);
    put_command(db, &command).await;
    command
}

pub fn chunk(seq: u64, stream: OutputStream, data: &str) -> LogChunk {
    LogChunk { seq, stream, data: data.to_owned(), created_at: at(4) }
}

pub fn out(seq: u64, data: &str) -> LogChunk {
    chunk(seq, OutputStream::Stdout, data)
}

pub fn err(seq: u64, data: &str) -> LogChunk {
    chunk(seq, OutputStream::Stderr, data)
}

pub async fn append(db: &Db, command: &Command, chunks: &[LogChunk]) -> bool {
    let tx = db.begin().await.unwrap();
    let appended = store::commands(everyone()).append_logs(&tx, command.id, chunks).await.unwrap();
    tx.commit().await.unwrap();
    appended
}

pub fn inline(text: &str) -> Inline {
    Inline { text: text.to_owned(), truncated: false }
}

pub fn exited(stdout: &str) -> End {
    End {
        status: Status::Exited,
        exit_code: Some(0),
        started_at: Some(at(3)),
        finished_at: at(9),
        cancel_mode: None,
        canceled_at: None,
        termination_signal: None,
        stdout: inline(stdout),
        stderr: inline(""),
    }
}
