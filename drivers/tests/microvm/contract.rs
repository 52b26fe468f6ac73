//! What every driver does, done by real machines: by such that boot, and by such that begin with what
//! another was.

mod booted {
    use crate::host::RealHost;

    async fn subject() -> RealHost {
        RealHost::new()
    }

    drivers::contract!(subject);
}

mod woken {
    use crate::host::RealHost;

    async fn subject() -> RealHost {
        RealHost::warm().await
    }

    drivers::contract!(subject);
}
