"""What a user of tf_hqgnn edits and deploys: the composition of the pipeline and the runners that own its paths."""
