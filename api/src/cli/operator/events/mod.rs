//! `crownest events`: what happened, as it happens. Changes nothing.

mod broker;
mod ending;
mod outbox;
mod print;

use std::{io::Write, sync::Arc};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::id::OrganizationId;

use super::{Ending, Failure, billing::Whose, help, open, values};
use crate::{
    app::{
        App,
        events::{Kinds, feed::Wanted},
    },
    config::Config,
};
use print::{Form, Printer};

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print events as they come, until it is interrupted.
    ///
    /// They come from the broker, if one is configured, through a queue of its own that goes with it:
    /// others get what they would. But that queue, too, takes events: one that no other queue takes no
    /// longer waits for one, while this runs. Without a broker, or with --outbox, --after, --since or
    /// --no-follow, they come from the outbox, in which published ones stay for some days.
    #[command(after_help = help::with(
        &[
            "crownest events tail --organization acme --type crownest.sandbox",
            "crownest events tail --json --after 0 --no-follow",
        ],
        help::OPERATOR,
    ))]
    Tail(Tail),
}

/// Which events to print, and how.
#[derive(Debug, Args)]
pub struct Tail {
    /// Only those of the organization with this name or id.
    #[arg(long, value_name = "NAME-OR-ID")]
    organization: Option<String>,
    /// Only types that begin with these words, such as `crownest.sandbox`; `*` is any one word.
    #[arg(long = "type", value_name = "WORDS")]
    kinds: Option<Kinds>,
    /// Print each as a line of JSON: the CloudEvent in its structured form.
    #[arg(long)]
    json: bool,
    /// Read the outbox although there is a broker.
    #[arg(long)]
    outbox: bool,
    /// Begin after this position in the outbox, which is printed with each event; 0 is the beginning.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// Begin with what was written at this instant or day; without it and --after, with what comes.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    since: Option<DateTime<Utc>>,
    /// End where the outbox ends, instead of waiting for more; begins at its beginning.
    #[arg(long)]
    no_follow: bool,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Does what was asked.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(
    config: Config,
    command: Command,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    let Command::Tail(arguments) = command;
    let of_the_past = arguments.after.is_some() || arguments.since.is_some() || arguments.no_follow;
    let url = config.amqp_url.clone().filter(|_| !(arguments.outbox || of_the_past));
    let form = if arguments.json { Form::Json } else { Form::Line };
    let mut printer = Printer::new(out, form, arguments.limit);
    let stop = ending::asked();
    match url {
        Some(url) => {
            let org = match &arguments.organization {
                Some(text) => Some(organization(&config, text).await?),
                None => None,
            };
            let binding = Kinds::binding(arguments.kinds.as_ref(), org);
            broker::tail(&config, &url, &binding, &mut printer, &stop).await?;
        }
        None => {
            let app = open(config).await?;
            let org = match arguments.organization {
                Some(organization) => Some(Whose { organization }.find(&app).await?.id),
                None => None,
            };
            let from = match (arguments.after, arguments.since, arguments.no_follow) {
                (Some(position), ..) => outbox::From::Position(position),
                (None, Some(_), _) | (None, None, true) => outbox::From::Position(0),
                (None, None, false) => outbox::From::Now,
            };
            let wanted = Wanted { org, kinds: arguments.kinds, since: arguments.since };
            let at_end = if arguments.no_follow { outbox::End::Leave } else { outbox::End::Wait };
            outbox::tail(&app, &wanted, (from, at_end), &mut printer, &stop).await?;
        }
    }
    Ok(Ending::Done)
}

/// An id is taken as it is, so that events can be read where there is no database.
async fn organization(config: &Config, text: &str) -> Result<OrganizationId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let app: Arc<App> = open(config.clone()).await?;
    Ok(Whose { organization: text.to_owned() }.find(&app).await?.id)
}

/// Tells whoever watches, beside the events.
fn tell(text: &str) {
    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "crownest: {text}");
}
