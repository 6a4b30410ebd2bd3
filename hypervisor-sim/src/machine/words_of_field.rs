//! Pages that are words by way of a field.

/// Implements [`xenvelope_grant::Words`] by the field `words`.
macro_rules! words_of_field {
    ($pages:ty) => {
        impl xenvelope_grant::Words for $pages {
            fn size(&self) -> usize {
                self.words.size()
            }
            fn load_u16(&self, at: usize, order: std::sync::atomic::Ordering) -> u16 {
                self.words.load_u16(at, order)
            }
            fn store_u16(&self, at: usize, value: u16, order: std::sync::atomic::Ordering) {
                self.words.store_u16(at, value, order);
            }
            fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
                self.words.compare_exchange_u16(at, current, new)
            }
            fn load_u32(&self, at: usize, order: std::sync::atomic::Ordering) -> u32 {
                self.words.load_u32(at, order)
            }
            fn store_u32(&self, at: usize, value: u32, order: std::sync::atomic::Ordering) {
                self.words.store_u32(at, value, order);
            }
            fn load_u64(&self, at: usize, order: std::sync::atomic::Ordering) -> u64 {
                self.words.load_u64(at, order)
            }
            fn store_u64(&self, at: usize, value: u64, order: std::sync::atomic::Ordering) {
                self.words.store_u64(at, value, order);
            }
            fn copy_out(&self, at: usize, out: &mut [u8]) {
                self.words.copy_out(at, out);
            }
            fn copy_in(&self, at: usize, bytes: &[u8]) {
                self.words.copy_in(at, bytes);
            }
            fn full_barrier(&self) {
                self.words.full_barrier();
            }
            fn read_barrier(&self) {
                self.words.read_barrier();
            }
        }
    };
}

pub(crate) use words_of_field;
