"""From one raw video to scores and evidence; nothing in here needs torch."""
