//! Templates and their versions, with the four that every installation starts with. Their ids are
//! fixed so that a pinned version means the same everywhere.

use sea_orm::{ConnectionTrait, DbErr, Statement};
use uuid::Uuid;

pub(super) const STATEMENTS: &[&str] = &[
    "create table templates (
        id uuid not null,
        slug text not null,
        created_at bigint not null,
        constraint templates_pkey primary key (id),
        constraint templates_slug_key unique (slug)
    )",
    "create table template_versions (
        id uuid not null,
        template_id uuid not null,
        version text not null,
        image_digest text,
        created_at bigint not null,
        deprecated_at bigint,
        deprecated_reason text,
        constraint template_versions_pkey primary key (id),
        constraint template_versions_version_key unique (template_id, version),
        constraint template_versions_image_key unique (template_id, image_digest),
        constraint template_versions_template_fkey
            foreign key (template_id) references templates (id),
        constraint template_versions_deprecated_check
            check ((deprecated_at is null) = (deprecated_reason is null)),
        constraint template_versions_image_check check (length(image_digest) = 64)
    )",
];

const SLUGS: [&str; 4] = ["base", "python", "node", "python-node"];
const FIRST_VERSION: &str = "1.0.0";
/// 2026-06-01T00:00:00Z, in microseconds and in the milliseconds that a UUIDv7 begins with.
const CREATED_AT: i64 = 1_780_272_000_000_000;
const ID_TIME: u128 = 1_780_272_000_000 << 80;
const VERSION_7_VARIANT_1: u128 = (7 << 76) | (2 << 62);

pub(super) async fn seed(c: &impl ConnectionTrait) -> Result<(), DbErr> {
    let backend = c.get_database_backend();
    for (slug, number) in SLUGS.into_iter().zip(1_u128..) {
        let id =
            |kind: u128| Uuid::from_u128(ID_TIME | VERSION_7_VARIANT_1 | (kind << 32) | number);
        let (template_id, version_id) = (id(1), id(2));
        c.execute_raw(Statement::from_sql_and_values(
            backend,
            "insert into templates (id, slug, created_at) values ($1, $2, $3)",
            [template_id.into(), slug.into(), CREATED_AT.into()],
        ))
        .await?;
        c.execute_raw(Statement::from_sql_and_values(
            backend,
            "insert into template_versions (id, template_id, version, created_at)
             values ($1, $2, $3, $4)",
            [version_id.into(), template_id.into(), FIRST_VERSION.into(), CREATED_AT.into()],
        ))
        .await?;
    }
    Ok(())
}
