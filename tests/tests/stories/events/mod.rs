//! Events at the broker: each arrives, as it is in the database, in the order of its subject, whatever
//! fails. Every story has an exchange and a queue of its own at a real RabbitMQ.

mod delivery;
mod example;
mod full;
mod relays;
mod tail;

/// The stories that need a broker end here without one, and say so.
macro_rules! mailbox {
    () => {
        match tests::Mailbox::open().await {
            Some(mailbox) => mailbox,
            None => return,
        }
    };
}
use mailbox;
