//! What a key may do: the 27 scopes of contract section 3.1 and sets of them. Decides nothing about
//! projects or organizations.

use std::{collections::BTreeSet, fmt, str::FromStr};

macro_rules! scopes {
    ($($variant:ident $text:literal),* $(,)?) => {
        /// A `resource:action` pair that a key can hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each name says its resource and action")]
        pub enum Scope { $($variant),* }

        impl Scope {
            /// Every scope, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The wire form, such as `sandbox:create`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl FromStr for Scope {
            type Err = UnknownScope;
            fn from_str(text: &str) -> Result<Self, UnknownScope> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownScope) }
            }
        }
    };
}

scopes! {
    SandboxCreate "sandbox:create",
    SandboxRead "sandbox:read",
    SandboxKill "sandbox:kill",
    SandboxExtend "sandbox:extend",
    CommandRun "command:run",
    CommandRead "command:read",
    CommandCancel "command:cancel",
    CodeRun "code:run",
    FileRead "file:read",
    FileWrite "file:write",
    ArtifactCreate "artifact:create",
    ArtifactRead "artifact:read",
    ArtifactDelete "artifact:delete",
    PreviewCreate "preview:create",
    PreviewRead "preview:read",
    PreviewRevoke "preview:revoke",
    WorkspaceRunCreate "workspace_run:create",
    WorkspaceRunRead "workspace_run:read",
    WorkspaceRunCancel "workspace_run:cancel",
    BackupCreate "backup:create",
    BackupRead "backup:read",
    BackupRestore "backup:restore",
    BackupDelete "backup:delete",
    UsageRead "usage:read",
    ApiKeyRead "api_key:read",
    ApiKeyRevoke "api_key:revoke",
    ProjectCreate "project:create",
}

/// A text that is none of the 27 scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known scope")]
pub struct UnknownScope;

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// To work with sandboxes and what is in them, and see the usage.
    Quickstart,
    /// Everything.
    All,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::Quickstart, Self::All];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quickstart => "quickstart",
            Self::All => "all",
        }
    }

    /// What it holds.
    #[must_use]
    pub fn scopes(self) -> ScopeSet {
        match self {
            Self::Quickstart => ScopeSet::quickstart(),
            Self::All => ScopeSet::all(),
        }
    }
}

/// A set of scopes, printed in the contract's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Every scope there is.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// The *Quickstart Developer* preset: work with sandboxes and what is in them, and see the usage;
    /// neither keys nor projects nor backups (contract, section 3.1).
    #[must_use]
    pub fn quickstart() -> Self {
        Scope::ALL
            .iter()
            .copied()
            .filter(|scope| {
                let resource = scope.as_str().split(':').next().unwrap_or_default();
                !matches!(resource, "backup" | "api_key" | "project")
            })
            .collect()
    }

    /// Whether the set holds a scope.
    #[must_use]
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_27_scopes_and_each_is_read_as_it_is_printed() {
        assert_eq!(Scope::ALL.len(), 27);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
        assert_eq!("sandbox:fly".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn the_quickstart_preset_reaches_neither_keys_nor_projects_nor_backups() {
        let preset = ScopeSet::quickstart();
        assert_eq!(preset.iter().count(), 20); // the CLI's 19 and usage:read
        assert!(preset.contains(Scope::UsageRead));
        for scope in [Scope::ApiKeyRead, Scope::ProjectCreate, Scope::BackupCreate] {
            assert!(!preset.contains(scope), "{scope}");
        }
    }
}
