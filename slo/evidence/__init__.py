"""What past events and load tests say: of alert policies, and of thresholds that can be promised."""
