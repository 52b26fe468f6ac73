//! What is outside of machines: the internet of the driver's own tests, in which the server plays a part, too. What
//! sandboxes are to reach of it is the stories' to say.

#[expect(dead_code, reason = "policies and names are the driver's own tests' matter")]
#[path = "../../../drivers/tests/suite/network/internet.rs"]
pub mod internet;
#[expect(dead_code, reason = "nothing here goes inside a machine's own namespace")]
#[path = "../../../drivers/tests/suite/network/namespace.rs"]
mod namespace;
