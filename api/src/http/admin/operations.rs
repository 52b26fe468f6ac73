//! The table of the admin API's operations: the roles that may call each, and the errors that it
//! documents. An operation without a row does not start.

use domain::admin::Role::{self, Auditor, Billing, Owner, Support};

use crate::http::operations::{CHANGE, NONE, Needs, Operation, READ, WRITE};

/// To look at what is no secret.
const ANYBODY: &[Role] = &[Owner, Billing, Support, Auditor];
/// To see who the operators are.
const AUDITORS: &[Role] = &[Owner, Auditor];
/// To look after customers.
const SUPPORT: &[Role] = &[Owner, Support];
/// To stop who does not pay or does harm.
const SUSPENDERS: &[Role] = &[Owner, Billing, Support];
/// To decide about money.
const MONEY: &[Role] = &[Owner, Billing];
/// To make other operators, and what cannot be undone.
const OWNERS: &[Role] = &[Owner];

const fn row(id: &'static str, roles: &'static [Role], errors: &'static [u16]) -> Operation {
    Operation { id, needs: Needs::Role(roles), errors, successor: None }
}

const fn open(id: &'static str) -> Operation {
    Operation { id, needs: Needs::Nothing, errors: NONE, successor: None }
}

/// Every operation.
pub const OPERATIONS: &[Operation] = &[
    open("getAdminOpenApi"),
    row("listOrganizations", ANYBODY, READ),
    row("createOrganization", SUPPORT, WRITE),
    row("getOrganization", ANYBODY, READ),
    row("suspendOrganization", SUSPENDERS, WRITE),
    row("resumeOrganization", SUSPENDERS, CHANGE),
    row("closeOrganization", OWNERS, WRITE),
    row("listMembers", ANYBODY, READ),
    row("addMember", SUPPORT, WRITE),
    row("removeMember", SUPPORT, CHANGE),
    row("listOrganizationProjects", ANYBODY, READ),
    row("createOrganizationProject", SUPPORT, WRITE),
    row("getOrganizationProject", ANYBODY, READ),
    row("renameOrganizationProject", SUPPORT, WRITE),
    row("listOrganizationApiKeys", ANYBODY, READ),
    row("createOrganizationApiKey", SUPPORT, WRITE),
    row("getOrganizationApiKey", ANYBODY, READ),
    row("rotateOrganizationApiKey", SUPPORT, WRITE),
    row("revokeOrganizationApiKey", SUPPORT, CHANGE),
    row("listPlans", ANYBODY, READ),
    row("getPlan", ANYBODY, READ),
    row("getOrganizationPlan", ANYBODY, READ),
    row("setOrganizationPlan", MONEY, WRITE),
    row("setLimitOverride", MONEY, WRITE),
    row("removeLimitOverride", MONEY, CHANGE),
    row("listTermsChanges", ANYBODY, READ),
    row("getBalance", ANYBODY, READ),
    row("listCreditGrants", ANYBODY, READ),
    row("grantCredit", MONEY, WRITE),
    row("adjustCredit", MONEY, WRITE),
    row("getSpendCap", ANYBODY, READ),
    row("setSpendCap", MONEY, WRITE),
    row("removeSpendCap", MONEY, CHANGE),
    row("listTransactions", ANYBODY, READ),
    row("getJournal", ANYBODY, READ),
    row("listStatements", ANYBODY, READ),
    row("getStatement", ANYBODY, READ),
    row("listPricingVersions", ANYBODY, READ),
    row("getPricingVersion", ANYBODY, READ),
    row("publishPricingVersion", MONEY, WRITE),
    row("getUsageOverTime", ANYBODY, READ),
    row("listUsageWindows", ANYBODY, READ),
    row("correctUsage", MONEY, WRITE),
    row("listAllSandboxes", ANYBODY, READ),
    row("getAnySandbox", ANYBODY, READ),
    row("killAnySandbox", SUPPORT, WRITE),
    row("listTemplates", ANYBODY, READ),
    row("listTemplateVersions", ANYBODY, READ),
    row("publishTemplateVersion", OWNERS, WRITE),
    row("getTemplateVersion", ANYBODY, READ),
    row("deprecateTemplateVersion", OWNERS, WRITE),
    row("listAuditEntries", ANYBODY, READ),
    row("listInstallationAuditEntries", AUDITORS, READ),
    row("listEvents", ANYBODY, READ),
    row("listAdminKeys", AUDITORS, READ),
    row("createAdminKey", OWNERS, WRITE),
    row("getAdminKey", AUDITORS, READ),
    row("revokeAdminKey", OWNERS, CHANGE),
];
