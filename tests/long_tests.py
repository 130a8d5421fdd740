"""What `make test` leaves to `make test-long`: further cases of what it tries, and whole ways that take many seconds.

Names of tests by file; `[...]` names one case, without it all cases are meant. conftest.py marks them.
"""

LONG = {
    "auto/test_auto.py": (
        "test_it_never_ends_below_popularity[chance]",
        "test_it_never_ends_below_popularity[three items for all]",
        "test_after_a_model_without_training_ids_and_what_was_taken_stay_known",
    ),
    "beam/test_places.py": ("test_a_name_without_a_folder_overwrites_nothing",),
    "cli/test_terminal.py": ("test_ids_are_utf8_in_any_locale", "test_a_terminal_of_any_encoding[latin-1]"),
    "evaluation/test_metrics_of_ranking.py": ("test_memory_does_not_grow_with_the_number_of_users",),
    "examples/test_two_examples.py": ("test_items_of_a_tfrs_model_are_served_in_four_bits",),
    "explore/test_explore.py": ("test_a_server_elsewhere_goes_and_comes_back",),
    "export/test_codes_of_exports.py": (
        "test_every_signature_answers_as_exact_arithmetic[1-1-13-options0]",
        "test_every_signature_answers_as_exact_arithmetic[1-1-64-options1]",
        "test_every_signature_answers_as_exact_arithmetic[1-None-13-options2]",
        "test_every_signature_answers_as_exact_arithmetic[8-8-6-options5]",
        "test_scann_scores_its_candidates_from_the_codes[1-1-13-options0]",
        "test_codes_of_one_side_only",
        "test_saved_models_shrink_by_what_codes_save",
    ),
    "export/test_load_saved_model.py": ("test_only_the_index_needs_scann_whatever_its_ids_are",),
    "export/test_new_items.py": (
        "test_a_new_version_is_what_a_full_export_makes_of_it[scann]",
        "test_every_setting_stays[settings0-False-ScannTopK-False]",
        "test_every_setting_stays[settings1-False-ScannTopK-False]",
        "test_models_that_were_exported_apart_keep_nothing_of_each_other",
    ),
    "export/test_portability.py": ("test_a_wrong_rank_is_refused_by_the_graph_itself[hqgnn_scann/3]",),
    "export/test_versions.py": ("test_two_models_of_one_graph_are_written_once[2-False]",),
    "export/test_warmup.py": ("test_every_signature_is_warmed_up_at_two_batch_sizes[hqgnn_scann]",),
    "export/test_where.py": (
        "test_all_wishes_at_once_another_for_each_user[scann-1]",
        "test_all_wishes_at_once_another_for_each_user[4x4-1]",
    ),
    "files/test_failures.py": ("test_train[300k]", "test_train[420k]", "test_export[760k]"),
    "forget/test_forget.py": (
        "test_nothing_of_a_user_is_left_and_the_others_get_what_they_got",
        "test_older_versions_and_past_pipeline_runs_are_named_as_not_reached",
        "test_a_call_that_was_killed_goes_on",
        "test_what_can_not_be_forgotten_is_refused",
    ),
    "graph/test_propagation.py": (
        "test_segment_sums_are_the_same_product[1-False]",
        "test_segment_sums_are_the_same_product[1-True]",
    ),
    "layers/test_every_layer.py": ("test_under_a_distribution_strategy",),
    "models/test_encoder.py": ("test_killed_and_resumed_ends_as_if_uninterrupted[ngcf]",),
    "models/test_keras_user.py": ("test_another_process_gives_the_same_answers",),
    "pipelines/test_run_local.py": ("test_an_interrupted_run_leaves_no_process_behind[15]",),
    "recommender/test_going_on.py": ("test_added_items_are_those_of_the_command_line",),
    "recommender/test_notebook.py": ("test_interrupted_it_is_as_it_was_before",),
    "retrieval/test_by_blocks.py": (
        "test_blocks_find_what_scoring_all_rows_finds[1 bit, XLA]",
        "test_blocks_find_what_scoring_all_rows_finds[2 bits, 8 bits, offsets, XLA]",
        "test_blocks_find_what_scoring_all_rows_finds[4 bits, float32]",
    ),
    "retrieval/test_int8.py": ("test_an_export_for_cpus_answers_where_there_are_no_such_products",),
    "retrieval/test_memory.py": ("test_no_mix_of_a_batch_takes_much_memory",),
    "runs/test_damage.py": ("test_an_export[to nothing]", "test_an_export[to half]"),
    "serving/test_fuzz_and_soak.py": ("test_a_sample_of_random_inputs",),
    "serving/test_model_configs.py": ("test_no_request_fails_while_versions_labels_and_models_change",),
    "serving/test_sharded.py": ("test_versions_are_never_mixed",),
    "serving_manifests/test_label.py": (
        "test_a_signal_in_the_middle_puts_all_back[1]",
        "test_a_signal_in_the_middle_puts_all_back[15]",
    ),
    "supply_chain/test_audit.py": (
        "test_both_pythons_are_looked_up_and_the_bill_has_every_package_with_its_hashes",
        "test_what_is_judged_by_any_of_its_names_is_no_error",
        "test_where_nobody_can_be_asked_it_says_so",
    ),
    "test_doctests.py": ("test_doctests[tf_hqgnn.serving.remote]",),
    "training/test_foreign_tf_config.py": ("test_the_other_commands", "test_train_does_the_same_as_without_it"),
    "tuning/test_tune.py": ("test_a_worker_trains_as_this_process_does_and_one_that_dies_is_noticed",),
}
