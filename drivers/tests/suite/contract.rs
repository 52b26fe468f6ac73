//! Every driver that this host can run, held against the contract.

/// The simulated driver.
mod simulated {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use domain::id::SandboxId;
    use drivers::{Driver, contract::Subject, simulated::Simulated};

    struct InMemory(Simulated);

    #[async_trait]
    impl Subject for InMemory {
        fn driver(&self) -> Arc<dyn Driver> {
            Arc::new(self.0.clone())
        }

        async fn crash(&self, id: SandboxId) {
            assert!(self.0.crash(id));
        }

        fn pass(&self, time: Duration) {
            self.0.clock().advance(time);
        }
    }

    async fn subject() -> InMemory {
        InMemory(Simulated::new())
    }

    drivers::contract!(subject);
}

/// The local driver.
mod local {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use domain::id::SandboxId;
    use drivers::{Driver, contract::Subject, local::Local};

    use crate::local_host::LocalHost;

    #[async_trait]
    impl Subject for LocalHost {
        fn driver(&self) -> Arc<dyn Driver> {
            Arc::new(Local::new(self.config.clone()))
        }

        async fn crash(&self, id: SandboxId) {
            self.kill_agent(id);
        }

        fn pass(&self, _: Duration) {}
    }

    async fn subject() -> LocalHost {
        LocalHost::new()
    }

    drivers::contract!(subject);
}

/// The Cloud Hypervisor driver with a stand-in for the VMM.
mod cloud_hypervisor {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use domain::id::SandboxId;
    use drivers::{Driver, contract::Subject};

    use crate::{local_host::kill, machine_host::MachineHost};

    #[async_trait]
    impl Subject for MachineHost {
        fn driver(&self) -> Arc<dyn Driver> {
            crate::traces::Host::driver(self)
        }

        async fn crash(&self, id: SandboxId) {
            kill(self.vmm_pid(id));
        }

        fn pass(&self, _: Duration) {}
    }

    async fn subject() -> MachineHost {
        MachineHost::new()
    }

    drivers::contract!(subject);

    /// Machines that begin with what another one was.
    mod woken {
        use drivers::contract::spec;

        use super::MachineHost;

        async fn subject() -> MachineHost {
            let mut host = MachineHost::new();
            host.config.warm_start = true;
            host.cloud_hypervisor().prepare(&spec()).await.unwrap();
            host
        }

        drivers::contract!(subject);
    }
}
