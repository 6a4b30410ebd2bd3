//! The guest's side: one interface that bonds a VF, the channel to the driver domain and direct channels
