//! The contract: what every driver does, and what happens inside a sandbox whichever driver made it.
//! Each case is a function that panics when a driver breaks it; [`contract!`](crate::contract!) makes
//! tests of them all. Says nothing of how strongly a driver isolates: that is its own tests' matter.
#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

pub mod commands;
pub mod files;
pub mod lifecycle;
pub mod sandbox;
pub mod suspension;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::DateTime;
use domain::{
    egress::EgressPolicy,
    id::{SandboxId, TemplateVersionId},
};

use crate::{Driver, Limits, Spec, Template};

/// A driver under test, with what the trait has no words for.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new instance of the driver over the same sandboxes, as another server process has it.
    fn driver(&self) -> Arc<dyn Driver>;

    /// Ends a sandbox from outside, without the driver, as an accident would. Returns once it is dead.
    async fn crash(&self, id: SandboxId);

    /// Lets time pass for the commands inside: moves a simulated clock. A real one moves by itself.
    fn pass(&self, time: Duration);
}

/// Makes a test of every case. `$subject` is a function in the same module that makes a [`Subject`].
#[macro_export]
macro_rules! contract {
    ($subject:ident) => {
        $crate::contract!(@cases $subject, lifecycle:
            an_unknown_sandbox_is_gone_already
            ensure_twice_is_ensure_once
            ensure_at_once_from_many_sides_is_ensure_once
            remove_may_be_repeated
            a_sandbox_made_anew_remembers_nothing
            sandboxes_do_not_share_files
            an_unknown_template_is_refused
            a_dead_sandbox_is_noticed
            another_process_sees_the_sandbox
            the_list_is_sorted
        );
        $crate::contract!(@cases $subject, suspension:
            a_suspended_sandbox_goes_on_where_it_was
            suspending_and_resuming_may_be_repeated
            what_is_not_there_cannot_be_suspended
            a_suspended_sandbox_can_be_removed
            ensuring_a_suspended_sandbox_resumes_it
        );
        $crate::contract!(@cases $subject, commands:
            output_comes_in_order_and_then_the_exit
            an_exit_code_is_reported
            a_command_is_started_once
            an_unknown_command_is_refused
            the_environment_is_the_sandboxs_and_the_commands
            a_command_runs_where_it_is_told_to
            a_graceful_cancel_terminates
            a_command_that_ignores_it_is_killed_after_the_grace
            a_forced_cancel_kills_at_once
            canceling_an_ended_command_changes_nothing
            a_timeout_ends_a_command
            a_watch_can_be_resumed
            output_beyond_the_buffer_waits_for_acknowledgement
            text_stays_text
            a_command_outlives_its_client
            an_ended_command_can_be_forgotten
            nobody_listens_on_a_port
        );
        $crate::contract!(@cases $subject, files:
            the_workspace_starts_empty
            a_file_comes_back_as_it_was_written
            a_directory_is_listed_by_name
            commands_and_file_calls_see_the_same_files
            paths_are_made_normal
            links_are_followed_inside_and_nowhere_else
            every_refusal_has_its_reason
            what_is_not_refused_is_done
            an_upload_that_is_cut_off_leaves_nothing
            a_full_workspace_says_so
        );
    };
    (@cases $subject:ident, $group:ident: $($case:ident)*) => {
        mod $group {
            $(
                #[tokio::test]
                async fn $case() {
                    $crate::contract::$group::$case(&super::$subject().await).await;
                }
            )*
        }
    };
}

/// A small sandbox of the base template.
#[must_use]
pub fn spec() -> Spec {
    let version_id = TemplateVersionId::generate(DateTime::UNIX_EPOCH);
    Spec {
        template: Template { slug: "base".to_owned(), version_id },
        env: BTreeMap::from([("GREETING".to_owned(), "hello from the spec".to_owned())]),
        limits: Limits { cpu_milli: 1000, memory_mib: 256, disk_mib: 8, n_pids: 64 },
        egress: EgressPolicy::allow_all(),
    }
}

/// A sandbox that nobody has made yet.
#[must_use]
pub fn new_id() -> SandboxId {
    SandboxId::generate(DateTime::UNIX_EPOCH)
}
