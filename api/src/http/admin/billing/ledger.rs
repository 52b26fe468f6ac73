//! The ledger: transaction by transaction, or as a journal for hledger.

use futures_util::{StreamExt, stream};
use poem_openapi::{Object, OpenApi, param::Path};
use rust_decimal::Decimal;

use billing::{
    ledger::{Account, Kind, Posting},
    money::decimal,
    period::Period,
};
use domain::id::{GrantId, OrganizationId, TransactionId};

use super::{Instant, precise};
use crate::{
    app::{
        admin::{books, organizations},
        billing::journal::{self, Booked},
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, Limit, Position, Query},
        responses::{Json, TextStream, feed_view},
        wire::Wire,
    },
};

/// A transaction of the ledger. Its postings sum to zero.
#[derive(Debug, Object)]
#[oai(rename = "LedgerTransaction", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct TransactionView {
    id: Wire<TransactionId>,
    /// Its number among the organization's, without a gap.
    seq: i64,
    kind: Wire<Kind>,
    /// Derived from what it books: one key is booked once.
    key: String,
    /// When what it books happened.
    at: Instant,
    /// The month whose statement shows it.
    booked_for: Wire<Period>,
    /// The version that priced what was used.
    pricing_version: Option<String>,
    /// The transaction that it corrects.
    corrects_transaction_id: Option<Wire<TransactionId>>,
    /// Why, for what people did.
    reason: Option<String>,
    /// When it was written.
    recorded_at: Instant,
    postings: Vec<PostingView>,
}

/// An amount on an account.
#[derive(Debug, Object)]
#[oai(rename = "LedgerPosting", rename_all = "camelCase", skip_serializing_if_is_none)]
struct PostingView {
    account: Wire<Account>,
    /// The grant, for an account of credit.
    grant_id: Option<Wire<GrantId>>,
    /// What the organization has more is above zero.
    credits: Wire<Decimal>,
}

impl From<&Booked> for TransactionView {
    fn from(booked: &Booked) -> Self {
        let heading = &booked.heading;
        Self {
            id: Wire(booked.id),
            seq: booked.seq,
            kind: Wire(heading.kind),
            key: heading.key.clone(),
            at: precise(heading.at),
            booked_for: Wire(heading.booked),
            pricing_version: heading.pricing.clone(),
            corrects_transaction_id: heading.corrects.map(Wire),
            reason: heading.reason.clone(),
            recorded_at: precise(booked.recorded_at),
            postings: booked.postings.iter().map(PostingView::from).collect(),
        }
    }
}

impl From<&Posting> for PostingView {
    fn from(posting: &Posting) -> Self {
        Self {
            account: Wire(posting.account),
            grant_id: posting.grant.map(Wire),
            credits: Wire(decimal(posting.amount)),
        }
    }
}

feed_view! {
    /// A page of the ledger.
    LedgerTransactionList of TransactionView
}

/// The routes of the ledger.
#[derive(Debug)]
pub struct Ledger;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Ledger")]
impl Ledger {
    /// List an organization's transactions, oldest first.
    #[oai(
        path = "/organizations/:organizationId/transactions",
        method = "get",
        operation_id = "listTransactions"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Position>>,
    ) -> Result<Json<LedgerTransactionList>, ApiError> {
        let after = cursor.0.map_or(0, |cursor| cursor.0);
        let found = books::transactions(caller.app(), id.0.0, after, limit.0.0).await?;
        let next = found.items.last().map_or(after, |last| last.seq);
        let views = found.items.iter().map(TransactionView::from).collect();
        Ok(Json(LedgerTransactionList::new(views, found.has_more, next)))
    }

    /// Get an organization's ledger as a plain-text journal that hledger reads.
    #[oai(
        path = "/organizations/:organizationId/journal",
        method = "get",
        operation_id = "getJournal"
    )]
    async fn journal(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<TextStream, ApiError> {
        let org = organizations::get(caller.app(), id.0.0).await?.id;
        let db = caller.app().db.clone();
        let pieces = stream::try_unfold((db, 0), move |(db, after)| async move {
            let piece = journal::piece(&db, org, after).await.map_err(|error| {
                // The status is sent already: all that is left is to break off.
                tracing::error!(%org, %error, "a journal breaks off");
                std::io::Error::other("the journal breaks off")
            })?;
            Ok(piece.map(|(text, last)| (text.into(), (db, last))))
        });
        let header = stream::once(async { Ok(journal::HEADER.into()) });
        Ok(TextStream::new(header.chain(pieces)))
    }
}
